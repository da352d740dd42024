"""Ends a process that no longer gets anywhere, so that its supervisor starts a fresh one."""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable

from worker.errors import EmbedError

log = logging.getLogger(__name__)


class Stall:
    """Whether nothing has changed for too long while work was waiting: a pure decision over what it is told."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._activity: object = None
        self._since = -math.inf

    def is_over(self, activity: object, *, work_waits: bool, now: float) -> bool:
        """
        Args:
            activity: anything that changes whenever work gets on.
            now: seconds on a clock that is never set back.
        """
        if activity != self._activity or not work_waits or self._since == -math.inf:
            self._activity, self._since = activity, now
        return now - self._since > self._seconds


class Watchdog:
    """A thread that looks on.

    Neither a health check of the process nor one of its connections sees a consumer that no longer consumes, or a
    device that no longer answers; that work waits and none gets done shows both.
    """

    def __init__(
        self,
        *,
        stall_seconds: float,
        activity: Callable[[], object],
        work_waits: Callable[[], bool],
        broken: Callable[[], EmbedError | None],
        end: Callable[[], None],
        abort: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            activity: gives something that changes whenever work gets on.
            work_waits: whether there is work for this process, in its hands or in the queue.
            broken: why the encoder no longer works at all, if so.
            end: called then, to end the process in good order.
            abort: called after a stall, when good order cannot be relied on; by default it ends the process at once.
        """
        self._stall = Stall(seconds=stall_seconds)
        self._pause = min(10.0, stall_seconds / 4)
        self._activity = activity
        self._work_waits = work_waits
        self._broken = broken
        self._end = end
        self._abort = abort or _abort
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            error = self._broken()
            if error is not None:
                log.critical("this process ends because its encoder is broken: %s", error.message)
                self._end()
                return
            if self._stall.is_over(self._activity(), work_waits=self._work_waits(), now=time.monotonic()):
                log.critical("this process ends because work waits and none was finished for too long")
                self._abort()


def _abort() -> None:
    # Where every thread stands is the only trace that a stall leaves.
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    logging.shutdown()
    os._exit(1)
