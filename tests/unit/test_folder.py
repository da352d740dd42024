from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.database import migrate
from worker.errors import InvalidSettings
from worker.folder import OutputFolder
from worker.settings import Settings, load_settings
from worker.storage import open_storage


def test_one_process_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "new" / "out")
    with folder.lock():
        with pytest.raises(InvalidSettings, match=str(os.getpid())), OutputFolder(folder.path).lock():
            pytest.fail("it is taken")
    with folder.lock():
        pass


@pytest.mark.parametrize("name", ["plain", "with space", "100%25", "ü#[]&=", "a:b@c", "what?"])
def test_a_folder_of_any_name_holds_database_and_artefacts(tmp_path: Path, name: str) -> None:
    folder = OutputFolder(tmp_path / name)
    settings = load_settings(Settings, database_url=folder.database_url, store_url=folder.store_url)
    with folder.lock():
        migrate(settings.database_url)
        with open_storage(settings.store_url, settings).writer("embeddings/a") as output:
            output.write(b"x")
    assert folder.artefact("embeddings/a").read_bytes() == b"x"
    assert (folder.path / "glm4v.sqlite3").is_file()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(InvalidSettings, match=r"nowhere|below"), OutputFolder(path).lock():
            pytest.fail("it cannot be made")
