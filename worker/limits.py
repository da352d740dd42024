"""How much may happen at once: bytes in memory, items beside a suspect, computations of the same content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two looks at whether anybody still wants what is waited for.
_GLANCE = 0.2


class ByteBudget:
    """Memory for what is under way. More than all of it is given to one taker when nobody else has any."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._taken

    def try_take(self, size: int) -> bool:
        with self._changed:
            if not self._has_room(size):
                return False
            self._taken += size
            return True

    def take(self, size: int, *, check: Callable[[], None]) -> None:
        """Wait for room. Wait while holding nothing: everybody's room comes from those who go on."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._has_room(size), _GLANCE):
                check()
            self._taken += size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._total


class Gate:
    """Lets any number of claims through together, or one suspect alone. A waiting suspect goes first."""

    def __init__(self) -> None:
        self._together = 0
        self._suspects_waiting = 0
        self._suspect_inside = False
        self._changed = threading.Condition()

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._suspect_inside and not self._suspects_waiting)
            self._together += 1
        try:
            yield
        finally:
            self._leave(together=-1)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._suspects_waiting += 1
            self._changed.wait_for(lambda: not self._suspect_inside and not self._together)
            self._suspects_waiting -= 1
            self._suspect_inside = True
        try:
            yield
        finally:
            self._leave(together=0)

    def _leave(self, *, together: int) -> None:
        with self._changed:
            self._together += together
            if not together:
                self._suspect_inside = False
            self._changed.notify_all()


class KeyedLocks:
    """A lock for each key that is in use, and none for the others."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[threading.Lock, int]] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def hold(self, key: str, *, check: Callable[[], None]) -> Iterator[None]:
        """Wait until nobody else holds the key; `check` raises when the waiting is in vain."""
        lock = self._enter(key)
        try:
            while not lock.acquire(timeout=_GLANCE):
                check()
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(key)

    def _enter(self, key: str) -> threading.Lock:
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
            return lock

    def _leave(self, key: str) -> None:
        with self._guard:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
