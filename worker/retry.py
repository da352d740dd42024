"""Whether and when an item that failed is tried again: a pure decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.errors import EmbedError, Interrupted, TransientError
from worker.records import ClaimedItem, Failed, Released, Retry


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter: retries of many items do not come back in waves."""

    max_attempts: int
    #: The longest wait before the second attempt; doubles with each further one.
    base_seconds: float
    #: The longest wait before any attempt.
    limit_seconds: float

    def outcome(
        self, item: ClaimedItem, error: EmbedError, timings: Mapping[str, float], *, chance: float
    ) -> Failed | Retry | Released:
        """Decide what becomes of an item whose attempt ended in an error.

        Args:
            chance: a random number in [0, 1): the share of the longest wait that is waited.
        """
        if isinstance(error, Interrupted):
            return Released(item=item)
        if isinstance(error, TransientError) and item.attempt < self.max_attempts:
            delay = chance * self.longest_wait(item.attempt)
            return Retry(item=item, code=error.code, message=error.message, delay_seconds=delay, timings=timings)
        return Failed(item=item, code=error.code, message=error.message, timings=timings)

    def longest_wait(self, attempt: int) -> float:
        """Seconds that an item waits at most after this attempt, counted from 1."""
        # The exponent is bounded: 2.0 ** 1100 is an OverflowError, and the limit is reached long before.
        return min(self.limit_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))
