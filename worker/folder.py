"""The folder of an embedded run: its database, its artefacts, and one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from worker.errors import InvalidSettings

_LOCK = ".lock"
_DATABASE = "glm4v.sqlite3"


class OutputFolder:
    """Everything of an embedded run lies below one path: delete the folder, and it never was."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def database_url(self) -> str:
        # Only what a database URL takes for something else is quoted.
        path = str(self.path / _DATABASE).replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}"

    @property
    def store_url(self) -> str:
        return f"file://{quote(str(self.path))}"

    @property
    def is_made(self) -> bool:
        """Whether something was embedded here, or was to be."""
        return (self.path / _DATABASE).is_file()

    def artefact(self, object_key: str) -> Path:
        return self.path / object_key

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and keep every other process out of it; the lock ends with this process, however it ends.

        Raises:
            InvalidSettings: another process is at work in it, or it cannot be made.
        """
        descriptor = self._open_lock()
        try:
            self._take(descriptor)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InvalidSettings(
                f"{self.path} cannot be written ({error.strerror}): choose another --out or give yourself access"
            ) from error

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode() or "unknown"
            raise InvalidSettings(
                f"process {owner} is at work in {self.path}: wait for it, stop it with `kill {owner}`,"
                " or choose another --out"
            ) from error
