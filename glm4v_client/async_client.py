"""The client, for programs with an event loop."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from glm4v_client.async_network import AsyncNetwork
from glm4v_client.calls import Calls
from glm4v_client.connection import Connection
from glm4v_client.network import Network


class AsyncEmbeddingClient(Connection, Calls):
    """A glm4v-embed service, seen from an event loop.

        async with AsyncEmbeddingClient("http://localhost:8000") as client:
            job = await client.submit(["s3://media/cat.jpg", "clips/dog.mp4"])
            async for progress in job.watch(): ...
            async for item in job.items():
                tokens = (await item.embedding()).to_torch()

    Every method may raise any ClientError of glm4v_client.errors; docs/client.md says when.
    """

    @staticmethod
    def _network(options: dict[str, Any]) -> Network:
        return AsyncNetwork(httpx.AsyncClient(**options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
