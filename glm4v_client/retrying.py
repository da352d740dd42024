"""Whether and when a call is made again: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

from glm4v_client.errors import ClientError, InvalidArgument, ServiceError, ServiceUnreachable, TooManyRequests

#: A proxy or a server that is starting, stopping or away. Of these only 503 says that nothing was done.
_PASSING = frozenset({502, 503, 504})
_NOT_DONE = frozenset({429, 503})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter. Used for calls that are safe to repeat."""

    attempts: int = 6  #: at one call
    base_seconds: float = 0.5  #: the longest wait before the second attempt; doubles with each further one
    limit_seconds: float = 20.0  #: the longest wait before any attempt, unless the service asks for more
    busy_seconds: float = 600.0  #: how long one call waits in all for a service that answers 429

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.base_seconds, self.limit_seconds, self.busy_seconds) < 0:
            raise InvalidArgument(f"{self}: give at least one attempt and no negative times")


class Attempts:
    """The attempts at one call so far."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._busy_seconds = 0.0

    def succeeded(self) -> None:
        """Something came of the last attempt: what fails from here on is counted anew."""
        self._failures, self._busy_seconds = 0, 0.0

    def delay(self, error: ClientError, *, repeatable: bool, chance: float) -> float | None:
        """Seconds to wait before the next attempt; None: there is none.

        Args:
            repeatable: doing it twice is as good as once; otherwise only what certainly was not done is repeated.
            chance: a random number in [0, 1): the share of the longest wait that is waited.
        """
        if not _passes(error, repeatable):
            return None
        self._failures += 1
        backoff = chance * min(
            self._policy.limit_seconds, self._policy.base_seconds * 2.0 ** min(self._failures - 1, 64)
        )
        asked = error.retry_after_seconds if isinstance(error, ServiceError) else None
        delay = backoff if asked is None else asked + chance * self._policy.base_seconds
        # A service that says when to come back is not failing, so that does not use up attempts but patience.
        if isinstance(error, TooManyRequests):
            self._busy_seconds += delay
            return delay if self._busy_seconds <= self._policy.busy_seconds else None
        return delay if self._failures < self._policy.attempts and delay <= self._policy.busy_seconds else None


def _passes(error: ClientError, repeatable: bool) -> bool:
    if isinstance(error, ServiceUnreachable):
        return repeatable or not error.was_sent
    if isinstance(error, ServiceError):
        return error.status in _NOT_DONE or (repeatable and error.status in _PASSING)
    return False
