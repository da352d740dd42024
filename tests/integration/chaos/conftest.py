"""A cluster on real servers, a lot of references, and what they become when nothing goes wrong."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.cluster import Cluster
from tests.integration.chaos.invariants import Result, check
from tests.integration.chaos.media import BUCKET, Lot, make_lot, run_in_one_process
from tests.servers import S3, Valkey


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much a scenario does; GLM4V_TEST_CHAOS=long makes it what the design promises."""

    items: int
    workers: int
    #: Workers that are killed, one after the other.
    kills: int
    #: Seconds that a server stays away.
    outage: float


@pytest.fixture(scope="session")
def scale() -> Scale:
    if os.environ.get("GLM4V_TEST_CHAOS") == "long":
        return Scale(items=2000, workers=4, kills=12, outage=20)
    return Scale(items=120, workers=2, kills=2, outage=3)


@pytest.fixture(scope="session")
def lot(scale: Scale, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lot]:
    lot = make_lot(scale.items, folder=tmp_path_factory.mktemp("lot"), s3=s3)
    yield lot
    lot.server.close()


@pytest.fixture(scope="session")
def expected(lot: Lot, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Result]:
    """What each reference becomes in one undisturbed process."""
    return run_in_one_process(lot.sources, tmp_path_factory.mktemp("undisturbed"), **source_settings(lot, s3))


@pytest.fixture
def make_cluster(lot: Lot, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Clusters on servers of one's own: `make_cluster(postgres=…, valkey=…, s3=…, endpoint=…)`."""
    clusters = []

    def make(*, database_url: str, valkey: Valkey, s3: S3, endpoint: str | None = None, **settings: str) -> Cluster:
        bucket = f"chaos-{uuid.uuid4().hex[:12]}"
        cluster = Cluster(
            tmp_path,
            GLM4V_DATABASE_URL=database_url,
            GLM4V_BROKER_URL=valkey.url,
            GLM4V_STORE_URL=f"s3://{bucket}?endpoint={endpoint or s3.url}",
            **{**source_settings(lot, s3), **settings},
        )
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def cluster(
    make_cluster: Callable[..., Cluster], database_url: str, broker_url: str, valkey: Valkey, s3: S3
) -> Cluster:
    """A cluster on the session's servers, with a database, broker and bucket of its own."""
    return make_cluster(database_url=database_url, valkey=valkey, s3=s3)


@pytest.fixture
def settle(expected: Mapping[str, Result]) -> Callable[..., None]:
    """Wait until a job of the whole lot is done, and check that no fault has left a trace."""

    def settle(cluster: Cluster, job_id: UUID, *, supervised: bool = False) -> None:
        cluster.wait_until_done(job_id, supervised=supervised)
        check(cluster.engine, cluster.storage(), job_id, expected=expected)

    return settle


def source_settings(lot: Lot, s3: S3) -> dict[str, str]:
    """What a worker needs to read the lot."""
    return {
        "GLM4V_FILE_ROOTS": str(lot.folder),
        "GLM4V_S3_SOURCE_URL": s3.store_url(BUCKET),
        "GLM4V_S3_ACCESS_KEY": s3.access_key,
        "GLM4V_S3_SECRET_KEY": s3.secret_key,
    }
