"""What can be asked of a service, over any network."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from uuid import UUID

from glm4v_client.errors import InvalidArgument
from glm4v_client.item import AsyncItemHandle
from glm4v_client.job import AsyncJobHandle
from glm4v_client.options import EmbedOptions
from glm4v_client.records import Item, Job, JobDetail, Page, Queue, Upload, Worker
from glm4v_client.service import Service
from glm4v_client.states import DEFAULT_PRIORITY, JobState, MediaKind
from glm4v_client.submission import Submission, Submittable, upload


class Calls:
    """The methods of both clients: AsyncEmbeddingClient inherits them, EmbeddingClient runs each to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def submit(
        self,
        sources: Iterable[Submittable],
        *,
        model: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        options: EmbedOptions | None = None,
        kind: MediaKind | str = MediaKind.AUTO,
        labels: Mapping[str, str] | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJobHandle:
        """Have sources embedded as one job.

        Sources may be any number, read as they are sent, a thousand to a call. A call whose answer is lost is repeated
        and still adds its items once. A submission that breaks off, because `sources` raises or by Ctrl-C, is
        cancelled; one with an `idempotency_key` is left open, and the same submission made again goes on with it.

        Args:
            sources: `http(s)://`, `s3://` and `file://` references (the last of the service's machine); paths of files
                of this machine, which are uploaded; or ItemRequests of either with a kind and options of their own.
            model: whose tokens; the service's own if not given.
            priority: 0 to 9; the larger number runs first.
            options: bounds on tokens, for every item that has none of its own.
            kind: image or video, for every item that has none of its own; auto looks into the file.
            labels: your own notes, to find the job by.
            webhook: URL that is sent the job when it has ended.
            idempotency_key: your name for this submission: the same again is the same job.

        Raises:
            InvalidArgument: a value makes no sense.
            OSError: a local file cannot be read.
            TooManyRequests: more work waits than the service takes, for longer than `RetryPolicy.busy_seconds`.
        """
        submission = Submission(
            model=model,
            priority=priority,
            options=options,
            labels=labels or {},
            webhook=webhook,
            kind=_media_kind(kind),
            idempotency_key=idempotency_key,
        )
        return AsyncJobHandle(self._service, await submission.send(self._service, sources))

    async def job(self, id: UUID | str) -> AsyncJobHandle:  # noqa: A002  # what it is called everywhere
        """A job by its id.

        Raises:
            InvalidArgument: this is no id.
            NotFound: there is none, or it is another key's.
        """
        path = f"/v1/jobs/{_job_id(id)}"
        return AsyncJobHandle(self._service, await self._service.call("GET", path, JobDetail))

    async def jobs(
        self, *, state: JobState | str | None = None, label: tuple[str, str] | None = None
    ) -> AsyncGenerator[AsyncJobHandle, None]:
        """The key's jobs, the newest first, fetched a page at a time.

        Args:
            state: only those in this state.
            label: only those with this name and value.
        """
        params = {"state": state, "label": None if label is None else ":".join(label)}
        async for record in self._service.pages("/v1/jobs", Page[Job], params):
            yield AsyncJobHandle(self._service, record)

    async def item(self, id: int) -> AsyncItemHandle:  # noqa: A002  # what it is called everywhere
        """An item by its id.

        Raises:
            NotFound: there is none, or it is another key's.
        """
        return AsyncItemHandle(self._service, await self._service.call("GET", f"/v1/items/{id}", Item))

    async def upload(self, path: str | os.PathLike[str]) -> Upload:
        """Hand a local file to the service, for several submissions; `submit` does so by itself for one.

        Raises:
            OSError: the file cannot be read.
        """
        return await upload(self._service, Path(path))

    async def workers(self) -> list[Worker]:
        """The processes that embed, and when each was last heard of."""
        return [worker async for worker in self._service.pages("/v1/workers", Page[Worker])]

    async def queues(self) -> list[Queue]:
        """The work that waits, by model."""
        return [queue async for queue in self._service.pages("/v1/queues", Page[Queue])]

    async def close(self) -> None:
        """Close every connection."""
        await self._service.network.end()


def _job_id(value: UUID | str) -> UUID:
    try:
        return UUID(str(value))
    except ValueError as error:
        raise InvalidArgument(f"{value!r} is not the id of a job: it looks like {UUID(int=0)}") from error


def _media_kind(kind: MediaKind | str) -> MediaKind:
    try:
        return MediaKind(kind)
    except ValueError as error:
        raise InvalidArgument(f"{kind!r} is no kind of media: say auto, image or video") from error
