from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from worker.errors import (
    EmbedError,
    EmptyFile,
    Forbidden,
    ForbiddenPath,
    IsADirectory,
    NotFound,
    SourceChanged,
    TooLarge,
    UnsupportedSource,
)
from worker.media import Fetcher, local_path


def nothing() -> None:
    """Everybody still wants it."""


def fetcher(*, roots: tuple[Path, ...] | None = None, max_bytes: int = 1000) -> Fetcher:
    return Fetcher(remote={}, file_roots=roots, max_bytes=max_bytes)


def fetch_error(source: str, *, roots: tuple[Path, ...] | None = None) -> EmbedError:
    with pytest.raises(EmbedError) as caught, fetcher(roots=roots).fetch(source, check=nothing):
        pass
    return caught.value


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_path_and_a_file_url_name_the_same_bytes(tmp_path: Path, form: str) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")

    with fetcher().fetch(form.format(photo), check=nothing) as media:
        assert media.path.read_bytes() == b"photo"
        assert (media.sha256, media.size, media.head) == (hashlib.sha256(b"photo").hexdigest(), 5, b"photo")


def test_a_file_url_may_be_percent_encoded_and_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert local_path("file:///a%20b/100%25.jpg") == Path("/a b/100%.jpg")
    assert local_path("/a%20b.jpg") == Path("/a%20b.jpg")
    assert local_path("dir/über.jpg") == Path("dir/über.jpg")


def test_what_is_not_a_readable_file_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(bytes(1001))
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")

    reasons = {
        name: type(fetch_error(f"{tmp_path}/{name}"))
        for name in ("missing", "file/below", "", "empty", "large", "loop", "pipe", "x" * 300)
    }

    assert reasons == {
        "missing": NotFound,
        "file/below": NotFound,
        "": IsADirectory,
        "empty": EmptyFile,
        "large": TooLarge,
        "loop": UnsupportedSource,
        "pipe": UnsupportedSource,
        "x" * 300: UnsupportedSource,
    }


def test_a_directory_says_how_to_name_the_files_in_it(tmp_path: Path) -> None:
    assert f"{tmp_path}/*" in fetch_error(str(tmp_path)).message


def test_a_file_without_permission_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no file mode stops.
    monkeypatch.setattr(os, "open", refuse)
    assert type(fetch_error(str(tmp_path / "photo.jpg"))) is Forbidden


@pytest.mark.parametrize("source", ["gopher://host/x", "file://host/x", "data://x", "", "a\0b"])
def test_what_no_scheme_of_ours_reads_is_unsupported(source: str) -> None:
    assert type(fetch_error(source)) is UnsupportedSource


def test_a_service_reads_files_only_below_its_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        (folder / "photo").write_bytes(b"x")
    (inside / "link").symlink_to(outside / "photo")
    (outside / "link").symlink_to(inside / "photo")

    allowed = fetcher(roots=(inside,))
    for source in (f"{inside}/photo", f"file://{inside}/photo", f"{outside}/link", f"{outside}/../inside/photo"):
        with allowed.fetch(source, check=nothing) as media:
            assert media.size == 1
    for source in (f"{outside}/photo", f"{inside}/link", f"{inside}/../outside/photo", "/etc/passwd"):
        assert type(fetch_error(source, roots=(inside,))) is ForbiddenPath
    assert type(fetch_error(f"{inside}/photo", roots=())) is ForbiddenPath


def test_what_lies_outside_the_roots_is_not_told_apart(tmp_path: Path) -> None:
    """Else a producer could ask which files this machine has."""
    errors = [fetch_error(source, roots=(tmp_path,)) for source in ("/etc", "/etc/passwd", "/etc/no-such-file")]
    assert {(type(error), error.message) for error in errors} == {(ForbiddenPath, ForbiddenPath().message)}


def test_a_file_written_to_after_it_was_hashed_is_found_out(tmp_path: Path) -> None:
    photo = tmp_path / "photo"
    photo.write_bytes(b"before")

    with fetcher().fetch(str(photo), check=nothing) as media:
        media.check_unchanged()
        photo.write_bytes(b"after.")
        os.utime(photo, ns=(0, 0))
        with pytest.raises(SourceChanged):
            media.check_unchanged()


def test_a_file_replaced_after_it_was_hashed_is_read_as_it_was(tmp_path: Path) -> None:
    photo = tmp_path / "photo"
    photo.write_bytes(b"before")

    with fetcher().fetch(str(photo), check=nothing) as media:
        photo.unlink()
        photo.write_bytes(b"after.")
        assert media.path.read_bytes() == b"before"
        media.check_unchanged()
