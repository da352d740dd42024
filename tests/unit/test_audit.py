from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repositories import check_counters, claim_all, embedding, make_job, states
from worker.audit import Audit, Fault
from worker.database import create_engine, migrate
from worker.directory_storage import DirectoryStorage
from worker.records import ClaimedItem, Succeeded
from worker.repository import Repository
from worker.retention import delete_unreferenced


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    migrate(f"sqlite:///{tmp_path}/jobs.db")
    engine = create_engine(f"sqlite:///{tmp_path}/jobs.db")
    yield Repository(engine)
    check_counters(engine)
    engine.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "store")


def store(repository: Repository, storage: DirectoryStorage, item: ClaimedItem, content: str) -> str:
    made = embedding(content)
    with storage.writer(made.object_key) as writer:
        writer.write(content.encode() * 10)
    stored = {"byte_size": writer.size, "object_sha256": writer.sha256}
    fields = {name: getattr(made, name) for name in made.__slots__} | stored
    repository.record([Succeeded(item=item, embedding=type(made)(**fields))])
    return made.object_key


@pytest.fixture
def keys(repository: Repository, storage: DirectoryStorage) -> list[str]:
    """Four items, each with an embedding and an object of its own."""
    items = claim_all(repository, make_job(repository, 4))
    return [store(repository, storage, item, content) for item, content in zip(items, "abcd", strict=True)]


def damage(storage: DirectoryStorage, keys: list[str]) -> None:
    """Lose the first object, cut the second, change the third, and add one that no row names."""
    storage.delete(keys[0])
    (storage.root / keys[1]).write_bytes(b"short")
    (storage.root / keys[2]).write_bytes(b"x" * 10)
    for key in ("embeddings/stray", "other/business"):
        with storage.writer(key) as writer:
            writer.write(b"x")


def test_a_sound_store_has_no_findings(repository: Repository, storage: DirectoryStorage, keys: list[str]):
    assert list(Audit(repository=repository, storage=storage, digests=True, stray_age_seconds=0).run()) == []


def test_every_fault_is_found_and_nothing_is_touched(
    repository: Repository, storage: DirectoryStorage, keys: list[str]
):
    damage(storage, keys)
    audit = Audit(repository=repository, storage=storage, stray_age_seconds=0)
    expected = {keys[0]: Fault.MISSING, keys[1]: Fault.DAMAGED, "embeddings/stray": Fault.STRAY}
    for _ in range(2):
        assert {finding.object_key: finding.fault for finding in audit.run()} == expected
    thorough = Audit(repository=repository, storage=storage, digests=True, stray_age_seconds=0)
    assert {one.object_key: one.fault for one in thorough.run()} == {**expected, keys[2]: Fault.DAMAGED}


def test_what_is_mended_is_computed_again_or_deleted(
    repository: Repository, storage: DirectoryStorage, keys: list[str]
):
    damage(storage, keys)
    audit = Audit(repository=repository, storage=storage, mend=True, digests=True, stray_age_seconds=0)
    findings = list(audit.run())
    assert sum(finding.requeued for finding in findings) == 3
    assert all(finding.mended for finding in findings)
    (job,) = repository.list_jobs()
    assert states(repository, job) == ["queued", "queued", "queued", "succeeded"]
    assert storage.size("embeddings/stray") is None
    assert storage.size("other/business") == 1
    delete_unreferenced(repository, storage, older_than_seconds=0)
    assert list(audit.run()) == []
    assert [found.key for found in storage.list("embeddings")] == [keys[3]]


def test_a_young_object_may_be_an_upload_whose_row_comes_next(repository: Repository, storage: DirectoryStorage):
    with storage.writer("embeddings/new") as writer:
        writer.write(b"x")
    assert list(Audit(repository=repository, storage=storage, mend=True).run()) == []
    assert storage.size("embeddings/new") == 1


def test_a_deleted_jobs_objects_go_and_the_others_stay(
    repository: Repository, storage: DirectoryStorage, keys: list[str]
):
    (item,) = claim_all(repository, make_job(repository, 1))
    found = repository.find_embedding("a" * 64, "f" * 64)
    assert found is not None
    repository.record([Succeeded(item=item, embedding=found)])
    repository.delete_job(repository.list_jobs()[1].id)
    assert delete_unreferenced(repository, storage, older_than_seconds=3600) == 0
    assert delete_unreferenced(repository, storage, older_than_seconds=0) == 3
    assert [one.key for one in storage.list("embeddings")] == [keys[0]]


def test_a_retention_run_that_was_interrupted_is_finished_by_the_next(
    repository: Repository, storage: DirectoryStorage, keys: list[str]
):
    repository.delete_job(repository.list_jobs()[0].id)
    assert len(repository.retire_embeddings(older_than_seconds=0)) == 4
    storage.delete(keys[0])
    assert delete_unreferenced(repository, storage, older_than_seconds=3600) == 4
    assert list(storage.list("embeddings")) == []
