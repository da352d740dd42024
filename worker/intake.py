"""How messages get into a worker: on threads beside Celery's event loop, while there is room for their items.

Celery's solo pool runs a message in the event loop, which then neither answers `inspect ping` nor fetches the next one.
So our task's strategy hands messages to the threads below in its place; all else about a message stays Celery's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from celery import bootsteps
from celery.concurrency.base import BasePool, apply_target
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks

log = logging.getLogger(__name__)


class Window:
    """The items whose messages this worker holds, less those that are finished.

    Counted in items and not in messages: one clip that takes minutes must not keep the rest of its message's room.
    """

    def __init__(self, items: int, *, on_room: Callable[[], None]) -> None:
        """
        Args:
            on_room: called when there is room again after there was none.
        """
        self._items = items
        self._on_room = on_room
        self._held: set[int] = set()
        self._closed_until = 0.0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def has_room(self) -> bool:
        """Whether to take another message; if it holds more items than there is room for, they wait their turn."""
        return len(self._held) < self._items and time.monotonic() >= self._closed_until

    def close_for(self, seconds: float) -> None:
        """Take no message for a while: its items would only be fetched and encoded in vain."""
        self._closed_until = time.monotonic() + seconds

    def hold(self, item_ids: Iterable[int]) -> None:
        with self._lock:
            self._held.update(item_ids)

    def let_go(self, item_ids: Iterable[int]) -> None:
        """Items that are finished, or whose message is; those let go before do not count twice."""
        with self._lock:
            was_full = not self.has_room()
            self._held.difference_update(item_ids)
            has_room = self.has_room()
        if was_full and has_room:
            self._on_room()


class MessageThreads(BasePool):  # type: ignore[misc] # Celery ships no types
    """A thread for each message that the worker holds."""

    def __init__(self, window: Window, *, threads: int) -> None:
        super().__init__(limit=threads)
        self._window = window
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="message")
        self._running: set[Future[None]] = set()
        self.is_closed = False
        self.start()

    def on_apply(
        self,
        target: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        callback: Callable[[object], None],
        accept_callback: Callable[..., None],
        **_: object,
    ) -> Future[None]:
        item_ids = _item_ids(args)
        self._window.hold(item_ids)

        def finished(result: object) -> None:
            # Before the acknowledgement, which wakes the event loop to look for room.
            self._window.let_go(item_ids)
            callback(result)

        future = self._executor.submit(_run, target, args, kwargs, finished, accept_callback)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def close(self) -> None:
        """Start no further message: those that have no thread yet go back to the broker with the connection's end."""
        self.is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def join(self, seconds: float) -> bool:
        """Wait for the messages that run, so that their acknowledgements are queued. False if some still run."""
        return not wait(set(self._running), seconds).not_done


def _run(
    target: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    callback: Callable[[object], None],
    accept_callback: Callable[..., None],
) -> None:
    try:
        apply_target(target, args, kwargs, callback, accept_callback)
    except Exception:
        # Celery answers errors of the task itself. The message stays unacknowledged: its items' rows know what to do.
        log.exception("a message could not be handled")


def _item_ids(args: tuple[Any, ...]) -> list[int]:
    """Those of a message, from what Celery passes to a pool. One that makes no sense has none, and fails later."""
    _name, _id, request, *_ = args
    match request["args"]:
        case [list() as item_ids] if all(isinstance(item_id, int) for item_id in item_ids):
            return item_ids
        case _:
            return []


class OnThreads:
    """The consumer as our task sees it: with another pool."""

    def __init__(self, consumer: Consumer, threads: MessageThreads) -> None:
        self._consumer = consumer
        self.pool = threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class Admission(bootsteps.StartStopStep):  # type: ignore[misc] # Celery ships no types
    """Takes messages by the items in them, on every new connection to the broker."""

    requires = (Tasks,)

    def start(self, consumer: Consumer) -> None:
        # Celery's own worker_disable_prefetch replaces the same method, to count messages.
        consumer.task_consumer.channel.qos.can_consume = consumer.controller.service.window.has_room
