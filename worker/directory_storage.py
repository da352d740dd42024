"""Artefacts in a directory of this machine."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer

from worker.errors import ObjectMissing, StorageForbidden, StorageFull, StorageUnavailable
from worker.storage import StoredObject, check_key

#: Unfinished objects lie here, on the same file system as the finished ones so that a rename publishes them. No key
#: begins with a dot.
INCOMING = ".incoming"


class DirectoryStorage:
    """Objects are files below `root`; several processes may share it. Made if missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with _storage_errors(root):
            (root / INCOMING).mkdir(parents=True, exist_ok=True)
            self._remove_strays()

    @contextmanager
    def writer(self, key: str) -> Iterator[DirectoryWriter]:
        target = self._path(key)
        incoming = self.root / INCOMING / uuid.uuid4().hex
        with _storage_errors(target):
            file = _open_locked(incoming)
        # The caller's own errors pass as they are: only ours are the store's.
        try:
            yield DirectoryWriter(file, target)
            with _storage_errors(target):
                _publish(file, incoming, target)
        finally:
            incoming.unlink(missing_ok=True)
            file.close()

    def open(self, key: str, start: int = 0, length: int | None = None) -> BinaryIO:
        path = self._path(key)
        with _storage_errors(path):
            try:
                file = path.open("rb")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                raise ObjectMissing(f"there is no object {key} in {self.root}: run the audit") from error
            file.seek(start)
            return file if length is None else io.BytesIO(_read_and_close(file, length))

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with _storage_errors(path):
            return path.stat().st_size if path.is_file() else None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _storage_errors(path):
            path.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        top = self._path(prefix).parent if prefix else self.root
        with _storage_errors(top):
            for folder, folders, names in os.walk(top, onerror=_raise_unless_gone):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for path in (Path(folder, name) for name in sorted(names)):
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix):
                        yield from _stored_object(key, path)

    def presigned_url(self, key: str, *, expires_seconds: int) -> str | None:  # noqa: ARG002
        check_key(key)
        return None

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _remove_strays(self) -> None:
        """Remove what processes left that died while writing: their locks died with them."""
        for path in (self.root / INCOMING).iterdir():
            with suppress(FileNotFoundError), path.open("rb") as file:
                if _try_lock(file):
                    path.unlink(missing_ok=True)


class DirectoryWriter:
    """An open file, and the digest and size of what went into it."""

    def __init__(self, file: BinaryIO, target: Path) -> None:
        self._file = file
        self._target = target
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: Buffer, /) -> None:
        with _storage_errors(self._target):
            self._file.write(data)
        self._digest.update(data)
        self._size += memoryview(data).nbytes


def _open_locked(path: Path) -> BinaryIO:
    """A new file that others can tell to be in use, as long as this process lives."""
    while True:
        file = path.open("xb")
        # A process that starts between our open and our lock takes the file for a stray: then make it again.
        if _try_lock(file) and path.exists():
            return file
        file.close()
        path.unlink(missing_ok=True)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _publish(file: BinaryIO, incoming: Path, target: Path) -> None:
    """Give the file its name, in such an order that after a power cut it is there whole or not at all."""
    file.flush()
    os.fsync(file.fileno())
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming.replace(target)
    for folder in (target.parent, *(folder.parent for folder in made)):
        _sync_directory(folder)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_and_close(file: BinaryIO, length: int) -> bytes:
    with file:
        return file.read(length)


def _raise_unless_gone(error: OSError) -> None:
    """A folder that vanished during the walk holds nothing; any other trouble must not look like an empty folder."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _stored_object(key: str, path: Path) -> Iterator[StoredObject]:
    """The listed object, unless it was deleted since its folder was read."""
    with suppress(FileNotFoundError):
        status = path.stat()
        yield StoredObject(key=key, size=status.st_size, modified_at=datetime.fromtimestamp(status.st_mtime, UTC))


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Say what an OSError means for a store."""
    try:
        yield
    except PermissionError as error:
        raise StorageForbidden(f"{path} cannot be used: give the worker's user access to it") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room is left for {path}: free some space") from error
        raise StorageUnavailable(f"{path} cannot be used ({error.strerror}): check the disk") from error
