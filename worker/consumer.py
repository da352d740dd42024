"""Celery's consumer of messages, made to outlive any way in which its broker can go."""

from __future__ import annotations

import logging

from celery.worker.consumer import Consumer

log = logging.getLogger(__name__)


class LastingConsumer(Consumer):  # type: ignore[misc] # Celery ships no types
    """A lost connection is left behind, whatever closing it brings up, and a new one is made."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:
            # kombu 5.7 gives unacknowledged messages back while it closes. When the broker died in a bad moment, it
            # looks for an address on a connection that has none any more, and Celery would end the worker for it.
            # The messages need no giving back: their items are still under way here, or their rows know what to do.
            log.debug("the lost connection could not be closed in order", exc_info=True)
