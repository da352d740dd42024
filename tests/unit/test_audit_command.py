from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.repositories import claim_all, make_job
from tests.unit.test_audit import damage, store
from worker.audit_command import AuditCommand, audit
from worker.database import create_engine, migrate
from worker.directory_storage import DirectoryStorage
from worker.folder import OutputFolder
from worker.repository import Repository
from worker.terminal import FAILURES, SUCCESS, USAGE, run


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    """With four items, each with an embedding and an object of its own."""
    folder = OutputFolder(tmp_path / "out")
    migrate(folder.database_url)
    repository = Repository(create_engine(folder.database_url))
    items = claim_all(repository, make_job(repository, 4))
    for item, content in zip(items, "abcd", strict=True):
        store(repository, DirectoryStorage(folder.path), item, content)
    repository.close()
    return folder


def run_audit(folder: OutputFolder, **options: bool) -> int:
    command = AuditCommand(**{"out": folder.path, "mend": False, "digests": False, "json": False, **options})
    return run(lambda console: audit(command, console))


def damaged(folder: OutputFolder) -> list[str]:
    """Damages all but the last of them, and adds a stray object that is too young to be one."""
    storage = DirectoryStorage(folder.path)
    keys = [found.key for found in storage.list("embeddings")]
    damage(storage, keys)
    return keys


def test_a_sound_store_is_a_success(folder: OutputFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_audit(folder, digests=True) == SUCCESS
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "4 embeddings and 4 objects looked at: database and store agree\n"


def test_findings_are_a_table_and_a_failure(folder: OutputFolder, capsys: pytest.CaptureFixture[str]) -> None:
    keys = damaged(folder)
    assert run_audit(folder) == FAILURES
    said = capsys.readouterr()
    assert sorted(line.split()[0] for line in said.out.splitlines()[2:]) == ["damaged", "missing"]
    assert all(key in said.out for key in keys[:2])
    assert "1 damaged, 1 missing" in said.err
    assert "--mend" in said.err


def test_with_digests_what_was_changed_in_place_is_found_too(
    folder: OutputFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = damaged(folder)
    assert run_audit(folder, digests=True, json=True) == FAILURES
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["object_key"]: one["fault"] for one in findings} == {
        keys[0]: "missing",
        keys[1]: "damaged",
        keys[2]: "damaged",
    }
    assert {(one["mended"], one["requeued"]) for one in findings} == {(False, 0)}


def test_what_is_mended_is_a_success_and_found_no_more(
    folder: OutputFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(folder)
    assert run_audit(folder, mend=True) == SUCCESS
    assert "to be computed again: 2 items" in capsys.readouterr().err
    assert run_audit(folder) == SUCCESS


def test_a_folder_that_is_none_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = OutputFolder(tmp_path / "typo")
    assert run_audit(folder) == USAGE
    assert "name theirs with --out" in capsys.readouterr().err
    assert not folder.path.exists()


def test_a_folder_with_somebody_at_work_is_left_alone(folder: OutputFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with folder.lock():
        assert run_audit(folder, mend=True) == USAGE
    assert "is at work in" in capsys.readouterr().err


def test_without_a_folder_it_is_the_service_that_the_settings_name(
    folder: OutputFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = AuditCommand(out=None, mend=False, digests=False, json=False)
    assert run(lambda console: audit(command, console)) == USAGE
    assert "GLM4V_DATABASE_URL" in capsys.readouterr().err
    monkeypatch.setenv("GLM4V_DATABASE_URL", folder.database_url)
    monkeypatch.setenv("GLM4V_STORE_URL", folder.store_url)
    assert run(lambda console: audit(command, console)) == SUCCESS
