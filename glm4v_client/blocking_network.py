"""The network of programs without an event loop: a wait is a blocking call, and several things at once are threads."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx

from glm4v_client.blocking import complete
from glm4v_client.crew import Crew, Result
from glm4v_client.network import http_errors

#: More at once than this wait for one another.
_MOST_THREADS = 256


class BlockingNetwork:
    """A `Network` whose every wait is over when it returns. May be used by many threads at once."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self._thread = _Thread()

    async def send(self, request: httpx.Request) -> httpx.Response:
        with http_errors():
            return self.http.send(request, stream=True, follow_redirects=True)

    async def read(self, response: httpx.Response) -> bytes:
        with http_errors():
            return response.read()

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        with http_errors():
            for chunk in response.iter_bytes():
                self._thread.check()
                yield chunk

    async def close(self, response: httpx.Response) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        if self._thread.stop is None:
            time.sleep(seconds)
        else:
            self._thread.stop.wait(seconds)
            self._thread.check()

    async def run(self, function: Callable[[], Result]) -> Result:
        return function()

    def crew(self) -> Crew:
        return _Threads(self._thread)

    async def end(self) -> None:
        self.http.close()


class _Threads:
    """A crew of threads, one for each work that is under way."""

    def __init__(self, thread: _Thread) -> None:
        self._stop = threading.Event()
        # It has no more threads than works were ever under way at once.
        self._pool = ThreadPoolExecutor(
            _MOST_THREADS, "glm4v-client", initializer=thread.stopped_by, initargs=(self._stop,)
        )
        self._futures: set[Future[Any]] = set()

    def begin(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._futures.add(self._pool.submit(lambda: complete(work())))

    def __len__(self) -> int:
        return len(self._futures)

    async def take(self) -> Any:
        ended = next(iter(wait(self._futures, return_when=FIRST_COMPLETED).done))
        self._futures.remove(ended)
        return ended.result()

    async def disband(self) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)


class _Thread(threading.local):
    """What tells a thread of a crew that nobody waits for it any more."""

    stop: threading.Event | None = None

    def stopped_by(self, stop: threading.Event) -> None:
        self.stop = stop

    def check(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise _Abandoned


class _Abandoned(BaseException):
    """Ends a thread of a crew after the call that wanted its result; nobody sees it."""
