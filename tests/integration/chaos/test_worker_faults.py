"""Workers are killed, asked to leave, frozen, poisoned and given a wrong clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from glm4v_client.states import ItemState
from tests.cluster import Cluster
from tests.integration.chaos.conftest import Scale
from tests.integration.chaos.media import Lot, deadly_picture

Settle = Callable[..., None]

#: An encoder so slow that most items are still to do when the fault comes.
SLOW = {"GLM4V_TEST_ITEM_SECONDS": "0.04"}


def test_killed_workers_cost_time_and_nothing_else(cluster: Cluster, lot: Lot, scale: Scale, settle: Settle) -> None:
    cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    for kill in range(1, scale.kills + 1):
        cluster.wait_until_begun(job, kill * scale.items // (scale.kills + 2))
        cluster.kill_one()
        cluster.replace_dead()
    settle(cluster, job, supervised=True)


def test_a_worker_asked_to_leave_gives_back_what_it_has_not_done(
    cluster: Cluster, lot: Lot, scale: Scale, settle: Settle
) -> None:
    first, *_ = cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    cluster.wait_until_begun(job, scale.items // 4)
    assert first.terminate(seconds=cluster.settings.drain_seconds + 5) == 0
    settle(cluster, job)
    # Given back and not charged: nothing was begun twice by anybody's lease running out.
    assert {item.attempt for item in cluster.items(job)} == {1}


def test_a_frozen_worker_changes_nothing_when_it_wakes(
    cluster: Cluster, lot: Lot, scale: Scale, settle: Settle
) -> None:
    sleeper, *_ = cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    cluster.wait_until_begun(job, scale.items // 4)
    sleeper.freeze()
    cluster.wait_until_done(job)
    before = cluster.items(job)
    sleeper.thaw()
    cluster.wait(lambda: b"lease" in sleeper.log.read_bytes(), "the sleeper finds out that its leases are lost")
    assert sleeper.terminate(seconds=cluster.settings.drain_seconds + 5) == 0
    assert cluster.items(job) == before
    settle(cluster, job)


def test_an_item_that_kills_its_workers_costs_only_itself(
    cluster: Cluster, lot: Lot, scale: Scale, settle: Settle
) -> None:
    lot.server.files["/deadly.png"] = deadly_picture()
    cluster.start_workers(scale.workers, GLM4V_TEST_DEADLY="1", GLM4V_MAX_ATTEMPTS="3")
    deadly = cluster.submit([f"{lot.server.url}/deadly.png"])
    job = cluster.submit(lot.sources)
    settle(cluster, job, supervised=True)
    cluster.wait_until_done(deadly, supervised=True)
    (item,) = cluster.items(deadly)
    assert (item.state, item.error_code, item.attempt) == (ItemState.FAILED, "worker_lost", 3)


@pytest.mark.parametrize("offset", [3600, -3600], ids=["an hour fast", "an hour slow"])
def test_a_worker_with_a_wrong_clock_harms_nobody(
    cluster: Cluster, lot: Lot, scale: Scale, settle: Settle, offset: int
) -> None:
    cluster.start_workers(1, GLM4V_TEST_CLOCK_OFFSET=str(offset))
    cluster.start_workers(scale.workers - 1)
    job = cluster.submit(lot.sources)
    settle(cluster, job)
    assert {item.attempt for item in cluster.items(job)} == {1}
