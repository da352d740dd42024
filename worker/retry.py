"""Whether and when an item that failed is tried again: a pure decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.errors import EmbedError, Interrupted, TransientError
from worker.records import ClaimedItem, Failed, Released, Retry

#: An outage is waited for as if it were this attempt: eight times the first wait.
_OUTAGE_ATTEMPT = 4


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter: retries of many items do not come back in waves."""

    max_attempts: int
    #: The longest wait before the second attempt; doubles with each further one.
    base_seconds: float
    #: The longest wait before any attempt.
    limit_seconds: float
    #: Count attempts that failed because one of the worker's own servers was away.
    charge_outages: bool = False

    def outcome(
        self, item: ClaimedItem, error: EmbedError, timings: Mapping[str, float], *, chance: float
    ) -> Failed | Retry | Released:
        """Decide what becomes of an item whose attempt ended in an error.

        Args:
            chance: a random number in [0, 1): the share of the longest wait that is waited.
        """
        if isinstance(error, Interrupted):
            return Released(item=item)
        is_charged = self.charge_outages or not error.is_outage
        if isinstance(error, TransientError) and (item.attempt < self.max_attempts or not is_charged):
            # What is not charged comes back with the same number, so the wait would not grow by it.
            longest = self.longest_wait(item.attempt if is_charged else max(item.attempt, _OUTAGE_ATTEMPT))
            return Retry(
                item=item,
                code=error.code,
                message=error.message,
                delay_seconds=chance * longest,
                timings=timings,
                charged=is_charged,
            )
        return Failed(item=item, code=error.code, message=error.message, timings=timings)

    def longest_wait(self, attempt: int) -> float:
        """Seconds that an item waits at most after this attempt, counted from 1."""
        # The exponent is bounded: 2.0 ** 1100 is an OverflowError, and the limit is reached long before.
        return min(self.limit_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))
