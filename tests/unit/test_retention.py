from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.repositories import age, claim_all, make_job
from tests.unit.test_audit import store
from worker.database import create_engine, migrate
from worker.directory_storage import DirectoryStorage
from worker.errors import StorageUnavailable
from worker.records import Heartbeat
from worker.repository import Repository
from worker.retention import Retention
from worker.settings import Settings

INTERVAL = 600


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    migrate(f"sqlite:///{tmp_path}/jobs.db")
    engine = create_engine(f"sqlite:///{tmp_path}/jobs.db")
    yield engine
    engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "store")


@pytest.fixture
def repository(engine: Engine, storage: DirectoryStorage) -> Repository:
    """With five embeddings that nothing refers to, and one that an item needs."""
    repository = Repository(engine)
    for contents in ("abcde", "f"):
        items = claim_all(repository, make_job(repository, len(contents)))
        for item, content in zip(items, contents, strict=True):
            store(repository, storage, item, content)
    repository.delete_job(repository.list_jobs()[1].id)
    return repository


class Worker:
    """Its part of retention, and what its metric would count."""

    def __init__(self, repository: Repository, storage: DirectoryStorage) -> None:
        self.deleted = 0
        settings = Settings(
            database_url="sqlite:///unused",
            store_url="file:///unused",
            retention_seconds=0,
            retention_interval_seconds=INTERVAL,
        )
        self.retention = Retention(repository, lambda: storage, settings, observe=self._count)

    def _count(self, embeddings: int) -> None:
        self.deleted += embeddings

    def run(self) -> int:
        """One step. Returns how many it deleted."""
        before = self.deleted
        self.retention.run_once()
        return self.deleted - before


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.retention._STEP", 2)


def objects(storage: DirectoryStorage) -> int:
    return len(list(storage.list("embeddings")))


@pytest.mark.usefixtures("small_steps")
def test_one_worker_at_a_time_goes_on_step_by_step_until_nothing_is_left(
    repository: Repository, storage: DirectoryStorage, engine: Engine
) -> None:
    first, second = Worker(repository, storage), Worker(repository, storage)
    assert [first.run(), second.run(), first.run(), first.run(), first.run()] == [2, 0, 2, 1, 0]
    assert objects(storage) == 1
    # Its turn is over, and it is nobody's before the interval is.
    repository.delete_job(repository.list_jobs()[0].id)
    assert [first.run(), Worker(repository, storage).run(), objects(storage)] == [0, 0, 1]
    age(engine, "chores", "due_at", INTERVAL)
    assert [Worker(repository, storage).run(), objects(storage)] == [1, 0]


@pytest.mark.usefixtures("small_steps")
def test_what_a_worker_left_when_it_died_is_done_by_the_next(
    repository: Repository, storage: DirectoryStorage, engine: Engine
) -> None:
    assert Worker(repository, storage).run() == 2
    age(engine, "chores", "due_at", INTERVAL)
    other = Worker(repository, storage)
    assert [other.run(), other.run(), other.run()] == [2, 1, 0]


def test_a_store_that_is_away_is_tried_again(
    repository: Repository, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(repository, storage)

    def fail(_: object, key: str) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStorage, "delete", fail)
        with pytest.raises(StorageUnavailable):
            worker.run()
    assert [worker.run(), objects(storage)] == [5, 1]


def test_workers_of_whom_nothing_was_heard_for_a_day_are_forgotten_too(
    repository: Repository, storage: DirectoryStorage, engine: Engine
) -> None:
    beat = Heartbeat(name="w", model="m", device="cpu", dtype="float32", age_seconds=0, held=0, finished=0, tokens=0)
    repository.heartbeat(beat)
    age(engine, "workers", "seen_at", 86_401)
    Worker(repository, storage).run()
    assert repository.workers() == []
