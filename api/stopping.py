"""A server that stops waits for its answers to end, and a stream of events has no end of its own: it is told."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_stop(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` on the running event loop when the process is asked to end, before whoever else handles that.

    Only the main thread has signals: on another one this does nothing, and who stops the server there tells it himself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> Any:
        loop.call_soon_threadsafe(tell)
        before = former[signal.Signals(number)]
        if callable(before):
            before(number, frame)

    ours = [number for number, before in former.items() if callable(before)]
    for number in ours:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in ours:
            # Whoever put a handler over ours is not to lose it.
            if signal.getsignal(number) is handle:
                signal.signal(number, former[number])
