"""How long and how often a server that is busy or out of reach is asked again."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from glm4v_core.weights import CheckpointError

_BASE_SECONDS = 1.0
_LONGEST_SECONDS = 30.0
#: A server that wants a longer rest is better asked by a later command.
_LONGEST_ASKED_SECONDS = 600.0
#: The hub says when its own limit ends: `RateLimit: "resolvers";r=0;t=55`.
_RATE_LIMIT_RESET = re.compile(r";\s*t=(\d+)")


class Busy(Exception):  # noqa: N818 - not an error yet
    """A server that may answer later."""

    def __init__(self, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.asked_seconds = _asked_seconds(headers or {})


class Patience:
    """Waits between tries; `stop` ends every wait at once, from any thread."""

    def __init__(self, *, attempts: int = 8, pause: Callable[[float], object] | None = None) -> None:
        """
        Args:
            attempts: in a row without a byte of progress.
            pause: waits for so many seconds.
        """
        self._attempts = attempts
        self.stopped = threading.Event()
        self.pause = pause or self.stopped.wait

    def stop(self) -> None:
        self.stopped.set()

    def tries(self, attempts: int | None = None) -> Tries:
        return Tries(self, attempts or self._attempts)


class Tries:
    """The tries of one request."""

    def __init__(self, patience: Patience, attempts: int) -> None:
        self._patience = patience
        self._attempts = attempts
        self._failed = 0

    def succeeded(self) -> None:
        self._failed = 0

    def wait(self, error: Exception) -> None:
        """Wait before the next try.

        Raises:
            CheckpointError: it has been tried often enough, or the server asks for too long a rest.
        """
        self._failed += 1
        reason = str(error) or type(error).__name__
        seconds = self._seconds(error)
        if self._failed >= self._attempts:
            raise CheckpointError(
                f"the hub cannot be reached ({reason}, {self._failed} times in a row): check the network;"
                " the same command goes on where this one stopped"
            ) from error
        if seconds > _LONGEST_ASKED_SECONDS:
            raise CheckpointError(
                f"{reason} and asks to wait {seconds:.0f} s: run the same command again then, it goes on from here"
            ) from error
        self._patience.pause(seconds)
        if self._patience.stopped.is_set():
            raise CheckpointError("stopped") from error

    def _seconds(self, error: Exception) -> float:
        if isinstance(error, Busy) and error.asked_seconds is not None:
            return error.asked_seconds
        most: float = min(_LONGEST_SECONDS, _BASE_SECONDS * 2 ** (self._failed - 1))
        return random.uniform(most / 2, most)


def _asked_seconds(headers: Mapping[str, str]) -> float | None:
    after = headers.get("Retry-After", "").strip()
    if after.isascii() and after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            return None
    reset = _RATE_LIMIT_RESET.search(headers.get("RateLimit", ""))
    return float(reset[1]) if reset else None
