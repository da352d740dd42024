"""A store that is opened when it is first used: the API starts, and says what is missing, while the store is away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from worker.storage import ObjectWriter, Storage, StoredObject


class LateStorage:
    """A `Storage`. Every method also raises what opening it does, until that succeeds."""

    def __init__(self, open_storage: Callable[[], Storage]) -> None:
        self._open_storage = open_storage
        self._storage: Storage | None = None
        self._opening = threading.Lock()

    def check(self) -> None:
        """Raise unless the store answers."""
        # Any name that no object has: the answer is that there is none.
        self._opened.size("ready")

    def writer(self, key: str) -> AbstractContextManager[ObjectWriter]:
        return self._opened.writer(key)

    def open(self, key: str, start: int = 0, length: int | None = None) -> BinaryIO:
        return self._opened.open(key, start, length)

    def size(self, key: str) -> int | None:
        return self._opened.size(key)

    def delete(self, key: str) -> None:
        self._opened.delete(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._opened.list(prefix)

    def presigned_url(self, key: str, *, expires_seconds: int) -> str | None:
        return self._opened.presigned_url(key, expires_seconds=expires_seconds)

    @property
    def _opened(self) -> Storage:
        with self._opening:
            if self._storage is None:
                self._storage = self._open_storage()
            return self._storage
