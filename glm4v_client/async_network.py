"""The network of programs with asyncio's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx

from glm4v_client.network import Argument, Result, http_errors


class AsyncNetwork:
    """A `Network` that waits on the running event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        with http_errors():
            return await self.http.send(request, stream=True, follow_redirects=True)

    async def read(self, response: httpx.Response) -> bytes:
        with http_errors():
            return await response.aread()

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        with http_errors():
            async for chunk in response.aiter_bytes():
                yield chunk

    async def close(self, response: httpx.Response) -> None:
        await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def run(self, function: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(function)

    async def each(
        self,
        function: Callable[[Argument], Awaitable[Result]],
        arguments: AsyncIterator[Argument],
        *,
        concurrency: int,
    ) -> AsyncGenerator[Result, None]:
        running: set[asyncio.Task[Result]] = set()
        try:
            async for argument in arguments:
                running.add(asyncio.create_task(_call(function, argument)))
                while len(running) >= concurrency:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def end(self) -> None:
        await self.http.aclose()


async def _call(function: Callable[[Argument], Awaitable[Result]], argument: Argument) -> Result:
    return await function(argument)
