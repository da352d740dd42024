"""The pictures that were drawn last, in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class PictureCache(Generic[Value]):
    """Forgets what was not asked for the longest, and what is over its time. For one event loop."""

    def __init__(self, *, size: Callable[[Value], int], limit_bytes: int = 64 * 2**20) -> None:
        self._size = size
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, tuple[Value, float]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Value | None:
        value, until = self._held.get(key, (None, 0.0))
        if value is None or time.monotonic() > until:
            return None
        self._held.move_to_end(key)
        return value

    def put(self, key: str, value: Value, *, seconds: float) -> None:
        """Keep a value for so long at most."""
        self._drop(key)
        self._held[key] = value, time.monotonic() + seconds
        self._bytes += self._size(value)
        while self._bytes > self._limit_bytes:
            self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        value, _ = self._held.pop(key, (None, 0.0))
        if value is not None:
            self._bytes -= self._size(value)
