"""Tells workers of new work, beside the requests: a broker that is slow or away keeps nobody waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from worker.errors import TransientError

log = logging.getLogger(__name__)

#: Seconds that the end of the process waits for messages that are being sent. What is not sent by then is sent by
#: the workers' reconciling.
_LAST_SECONDS = 5.0


class Announcer:
    """Calls `fill` for models that have new work, on a thread of its own, once for all that came meanwhile."""

    def __init__(self, fill: Callable[[str], object]) -> None:
        """
        Args:
            fill: sends messages for a model's items that wait.
        """
        self._fill = fill
        self._models: set[str] = set()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is announced, if that is quickly done."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def announce(self, model: str) -> None:
        """A model has new work in the database."""
        with self._changed:
            self._models.add(model)
            self._changed.notify_all()

    def _run(self) -> None:
        while models := self._next():
            for model in models:
                self._send(model)

    def _next(self) -> set[str]:
        """The models announced since the last call; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._models or self._stopping)
            models, self._models = self._models, set()
            return models

    def _send(self, model: str) -> None:
        try:
            self._fill(model)
        except TransientError as error:
            log.warning("the job is stored, and its messages are sent later: %s", error.message)
        except Exception:
            log.exception("the messages of %s could not be sent; reconciling will send them", model)
