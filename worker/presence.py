"""A worker's row, by which people see that it lives and what it has done."""

from __future__ import annotations

import logging
import threading
import time

from worker.errors import TransientError
from worker.records import Failed, Heartbeat, Outcome, Succeeded
from worker.runtime import Runtime

log = logging.getLogger(__name__)

#: Seconds between two heartbeats, at least; a worker is taken for dead after a minute.
_PAUSE_SECONDS = 4.0
#: Seconds for a heartbeat under way when the worker stops.
_LEAVE_SECONDS = 2.0


class Presence:
    """Says how a runtime is doing, from its start until it leaves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._begun = time.monotonic()
        self._due_at = self._begun
        self._finished = 0
        self._tokens = 0
        # Two locks: a database that hangs must not hold up the items that are counted.
        self._counting = threading.Lock()
        self._speaking = threading.Lock()
        self._is_heard = False
        self._has_left = False

    def observe(self, outcome: Outcome) -> None:
        """Count an outcome that was recorded."""
        with self._counting:
            self._finished += isinstance(outcome, Succeeded | Failed)
            self._tokens += outcome.embedding.num_tokens if isinstance(outcome, Succeeded) else 0

    def beat(self) -> None:
        """Say that we live; call it every few seconds, or more often.

        Raises:
            TransientError: the database did not answer.
        """
        with self._speaking:
            if self._has_left or time.monotonic() < self._due_at:
                return
            self._is_heard = False
            self._runtime.repository.heartbeat(self._heartbeat())
            self._is_heard = True
            self._due_at = time.monotonic() + _PAUSE_SECONDS

    def leave(self) -> None:
        """Take the row away: a worker that stops in order is not to be looked for."""
        self._has_left = True
        # A database that did not answer the last heartbeat is not waited for: there are items to be given back.
        if not self._speaking.acquire(timeout=_LEAVE_SECONDS):
            return
        try:
            if self._is_heard:
                self._runtime.repository.remove_worker(self._runtime.name)
        except TransientError as error:
            log.warning("this worker is shown for another day: %s", error.message)
        finally:
            self._speaking.release()

    def _heartbeat(self) -> Heartbeat:
        settings = self._runtime.settings
        return Heartbeat(
            name=self._runtime.name,
            model=settings.model,
            device=self._runtime.engine.encoder.device,
            dtype=settings.dtype,
            age_seconds=time.monotonic() - self._begun,
            held=len(self._runtime.leases),
            finished=self._finished,
            tokens=self._tokens,
        )
