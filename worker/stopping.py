"""Signals that ask a command to stop: the first in order, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Somebody wants no more: the user, the system, or the reader of our output. No `except Exception` may eat it."""

    def __init__(self, number: signal.Signals) -> None:
        #: As shells report a program that a signal has ended.
        self.exit_code = 128 + number


class StopSignals:
    """While the block lasts, the first signal raises Stopped in the main thread and the second ends the process.

    A signal that whoever started us had ignored, as `nohup` does, stays ignored.
    """

    def __init__(self) -> None:
        self._previous = {
            number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._received: signal.Signals | None = None
        self._deferred = False

    def __enter__(self) -> Self:
        for number in self._previous:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Raise only from `check`: an exception in the middle of a transaction would leave a library in disorder."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        if self._received is not None:
            raise Stopped(self._received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._received is not None:
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if not self._deferred:
            self.check()
