"""Redis forgets, hangs and drops connections; Postgres restarts; the store goes away, slows down and breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import Cluster
from tests.faults import Fault, FaultyProxy
from tests.integration.chaos.conftest import Scale
from tests.integration.chaos.media import Lot
from tests.integration.conftest import running
from tests.servers import S3, Postgres, Valkey

Settle = Callable[..., None]
MakeCluster = Callable[..., Cluster]

#: An encoder so slow that most items are still to do when the fault comes.
SLOW = {"GLM4V_TEST_ITEM_SECONDS": "0.04"}


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """Without a log: it forgets everything when it is killed."""
    yield from running(Valkey)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Keeps what was committed, whatever happens to it."""
    yield from running(lambda: Postgres(durable=True))


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    """Stands before the S3 server."""
    proxy = FaultyProxy(s3.port)
    yield proxy
    proxy.close()


def test_a_broker_that_forgets_loses_nothing(
    make_cluster: MakeCluster, database_url: str, own_valkey: Valkey, s3: S3, lot: Lot, scale: Scale, settle: Settle
) -> None:
    cluster = make_cluster(database_url=database_url, valkey=own_valkey, s3=s3)
    cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    cluster.wait_until_begun(job, scale.items // 5)
    own_valkey.flush()
    cluster.wait_until_begun(job, 2 * scale.items // 5)
    own_valkey.kill()
    time.sleep(scale.outage)
    own_valkey.start()
    settle(cluster, job)
    assert {item.attempt for item in cluster.items(job)} == {1}


def test_a_broker_that_hangs_and_drops_connections_loses_nothing(
    make_cluster: MakeCluster, database_url: str, own_valkey: Valkey, s3: S3, lot: Lot, scale: Scale, settle: Settle
) -> None:
    cluster = make_cluster(database_url=database_url, valkey=own_valkey, s3=s3, GLM4V_BROKER_TIMEOUT_SECONDS="2")
    cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    cluster.wait_until_begun(job, scale.items // 5)
    own_valkey.cut_connections()
    cluster.wait_until_begun(job, 2 * scale.items // 5)
    own_valkey.pause()
    time.sleep(2 * cluster.settings.broker_timeout_seconds + scale.outage)
    own_valkey.resume()
    settle(cluster, job)
    assert {item.attempt for item in cluster.items(job)} == {1}


def test_a_database_that_restarts_and_drops_connections_loses_nothing(
    make_cluster: MakeCluster,
    own_postgres: Postgres,
    valkey: Valkey,
    broker_url: str,
    s3: S3,
    lot: Lot,
    scale: Scale,
    settle: Settle,
) -> None:
    cluster = make_cluster(database_url=own_postgres.create_database(), valkey=valkey, s3=s3)
    cluster.start_workers(scale.workers, **SLOW)
    job = cluster.submit(lot.sources)
    for share in (1, 2, 3):
        cluster.wait_until_begun(job, share * scale.items // 6)
        own_postgres.cut_connections()
    own_postgres.stop()
    time.sleep(scale.outage)
    own_postgres.start()
    cluster.wait_until_begun(job, 4 * scale.items // 6)
    own_postgres.kill()
    own_postgres.start()
    settle(cluster, job)


def test_a_store_that_is_down_then_slow_then_broken_loses_nothing(
    make_cluster: MakeCluster,
    database_url: str,
    valkey: Valkey,
    broker_url: str,
    s3: S3,
    proxy: FaultyProxy,
    lot: Lot,
    scale: Scale,
    settle: Settle,
) -> None:
    endpoint = f"http://127.0.0.1:{proxy.port}"
    cluster = make_cluster(database_url=database_url, valkey=valkey, s3=s3, endpoint=endpoint)
    cluster.start_workers(scale.workers)
    job = cluster.submit(lot.sources)
    for share, fault in enumerate([Fault.DOWN, Fault.SLOW, Fault.BROKEN], start=1):
        cluster.wait_until_begun(job, share * scale.items // 6)
        with proxy.fault(fault):
            time.sleep(scale.outage)
    settle(cluster, job)
