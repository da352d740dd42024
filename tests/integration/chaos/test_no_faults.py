"""Nothing goes wrong: the measure of every other scenario."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster import Cluster
from tests.integration.chaos.conftest import Scale
from tests.integration.chaos.media import Lot


def test_several_workers_make_of_each_item_what_one_process_makes(
    cluster: Cluster, lot: Lot, scale: Scale, settle: Callable[..., None]
) -> None:
    cluster.start_workers(scale.workers)
    job = cluster.submit(lot.sources)
    settle(cluster, job)
    assert {item.attempt for item in cluster.items(job)} == {1}
