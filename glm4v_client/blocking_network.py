"""The network of programs without an event loop: a wait is a blocking call, and several things at once are threads."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import httpx

from glm4v_client.blocking import complete
from glm4v_client.network import Argument, Result, http_errors


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

    async def each(
        self,
        function: Callable[[Argument], Awaitable[Result]],
        arguments: AsyncIterator[Argument],
        *,
        concurrency: int,
    ) -> AsyncGenerator[Result, None]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(concurrency, "glm4v-client", initializer=self._thread.stopped_by, initargs=(stop,))
        running: set[Future[Result]] = set()
        try:
            async for argument in arguments:
                running.add(pool.submit(_call, function, argument))
                while len(running) >= concurrency:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    async def end(self) -> None:
        self.http.close()


class _Thread(threading.local):
    """What tells a thread of `each` that nobody waits for it any more."""

    stop: threading.Event | None = None

    def stopped_by(self, stop: threading.Event) -> None:
        self.stop = stop

    def check(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise _Abandoned


class _Abandoned(BaseException):
    """Ends a thread of `each` after the call that wanted its result; nobody sees it."""


def _call(function: Callable[[Argument], Awaitable[Result]], argument: Argument) -> Result:
    return complete(function(argument))
