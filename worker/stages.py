"""Where an item's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stages:
    """Seconds that one item has spent waiting in each stage. They overlap with other items', never with each other."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add what the block takes; a stage may have many blocks, none inside another."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] += time.monotonic() - begun

    def seconds(self) -> Mapping[str, float]:
        """By stage, and `total` since the item's start."""
        rounded = {stage: round(seconds, 6) for stage, seconds in self._seconds.items()}
        return {**rounded, "total": round(time.monotonic() - self._begun, 6)}
