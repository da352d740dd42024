"""The network of programs with asyncio's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx

from glm4v_client.crew import Crew, Result
from glm4v_client.network import http_errors


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

    def crew(self) -> Crew:
        return _Tasks()

    async def end(self) -> None:
        await self.http.aclose()


class _Tasks:
    """A crew of tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def begin(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._tasks.add(asyncio.ensure_future(work()))

    def __len__(self) -> int:
        return len(self._tasks)

    async def take(self) -> Any:
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = ended.pop()
        self._tasks.remove(task)
        return task.result()

    async def disband(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
