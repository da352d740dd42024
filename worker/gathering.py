"""One transaction for many: what comes while one runs goes into the next."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

Entry = TypeVar("Entry")

#: Seconds for which a busy process lets a group grow; an idle one waits for nobody.
_GATHER_SECONDS = 0.01


class Gatherer(Generic[Entry]):
    """Many threads put entries in, one takes them out in groups."""

    def __init__(self, *, largest: int) -> None:
        self._largest = largest
        self._entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._is_busy = False

    def put(self, entry: Entry) -> None:
        self._entries.put(entry)

    def close(self) -> None:
        """Let `groups` end after what was put so far."""
        self._entries.put(None)

    def groups(self) -> Iterator[list[Entry]]:
        """Each at least one entry, in the order in which they were put."""
        while (first := self._entries.get()) is not None:
            group, is_last = self._gather(first)
            self._is_busy = len(group) > 1
            yield group
            if is_last:
                return

    def _gather(self, first: Entry) -> tuple[list[Entry], bool]:
        """A group, and whether nothing comes after it."""
        group = [first]
        until = time.monotonic() + (_GATHER_SECONDS if self._is_busy else 0.0)
        while len(group) < self._largest:
            try:
                entry = self._entries.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if entry is None:
                return group, True
            group.append(entry)
        return group, False
