"""The client, for programs that block. Each method is that of the asynchronous class, run to its end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from glm4v_client.blocking import blocking, iterating
from glm4v_client.blocking_network import BlockingNetwork
from glm4v_client.calls import Calls
from glm4v_client.connection import Connection
from glm4v_client.item import AsyncItemHandle, ItemView
from glm4v_client.job import AsyncJobHandle, JobView
from glm4v_client.network import Network
from glm4v_client.records import Item, Job


class ItemHandle(ItemView):
    """An item, and what can be done with it."""

    def __init__(self, inner: AsyncItemHandle) -> None:
        self._inner = inner

    @property
    def record(self) -> Item:  # type: ignore[override]
        return self._inner.record

    refresh = blocking(AsyncItemHandle.refresh)
    retry = blocking(AsyncItemHandle.retry)
    embedding = blocking(AsyncItemHandle.embedding)


class JobHandle(JobView):
    """A job, and what can be done with it."""

    def __init__(self, inner: AsyncJobHandle) -> None:
        self._inner = inner

    @property
    def record(self) -> Job:  # type: ignore[override]
        return self._inner.record

    refresh = blocking(AsyncJobHandle.refresh)
    watch = iterating(AsyncJobHandle.watch)
    wait = blocking(AsyncJobHandle.wait)
    items = iterating(AsyncJobHandle.items, ItemHandle)
    raise_for_failures = blocking(AsyncJobHandle.raise_for_failures)
    download = blocking(AsyncJobHandle.download)
    cancel = blocking(AsyncJobHandle.cancel)
    retry_failed = blocking(AsyncJobHandle.retry_failed)
    delete = blocking(AsyncJobHandle.delete)


class EmbeddingClient(Connection):
    """A glm4v-embed service. May be used by many threads at once.

        with EmbeddingClient("http://localhost:8000") as client:
            job = client.submit(["s3://media/cat.jpg", "clips/dog.mp4"])
            for progress in job.watch(): ...
            for item in job.items():
                tokens = item.embedding().to_torch()

    Every method may raise any ClientError of glm4v_client.errors; docs/client.md says when.
    """

    @staticmethod
    def _network(options: dict[str, Any]) -> Network:
        return BlockingNetwork(httpx.Client(**options))

    @property
    def _inner(self) -> Calls:
        return Calls(self._service)

    submit = blocking(Calls.submit, JobHandle)
    job = blocking(Calls.job, JobHandle)
    jobs = iterating(Calls.jobs, JobHandle)
    item = blocking(Calls.item, ItemHandle)
    upload = blocking(Calls.upload)
    workers = blocking(Calls.workers)
    queues = blocking(Calls.queues)
    close = blocking(Calls.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
