"""A job and its items handed over: local files uploaded, items sent a thousand at a time."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from glm4v_client.crew import each
from glm4v_client.errors import ClientError, InvalidArgument, ServiceError, ServiceFailed
from glm4v_client.file_body import FileBody
from glm4v_client.options import EmbedOptions
from glm4v_client.records import Added, ItemRequest, ItemsRequest, JobDetail, JobRequest, Upload
from glm4v_client.service import Service
from glm4v_client.states import MediaKind

#: A reference, the path of a local file, or either with a kind and options of its own.
Submittable = str | os.PathLike[str] | ItemRequest

#: Items of one call: a few hundred kilobytes, and a lost answer costs a second at most.
ITEMS_PER_CALL = 1000

#: Local files under way to the service at once.
_UPLOADS = 4

#: What a header can say.
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

AnyRequest = TypeVar("AnyRequest", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is said of a job beside its items; as `EmbeddingClient.submit` takes it."""

    model: str | None
    priority: int
    options: EmbedOptions | None
    labels: Mapping[str, str]
    webhook: str | None
    kind: MediaKind
    #: The producer's own: the same submission made again goes on where it broke off.
    idempotency_key: str | None

    def __post_init__(self) -> None:
        if self.idempotency_key is not None and not _KEY.fullmatch(self.idempotency_key):
            raise InvalidArgument("idempotency_key: give 1 to 255 visible ASCII characters, without spaces")

    async def send(self, service: Service, sources: Iterable[Submittable]) -> JobDetail:
        """Make the job, add every item and close it. At most two calls' worth of sources is held at a time."""
        calls = _calls(sources)
        first, is_last = next(calls)
        job = await self._open(service, await self._items(service, first), closed=is_last)
        try:
            position = len(first)
            while not is_last and job.closed_at is None:
                some, is_last = next(calls)
                # Of a submission that goes on, what is there already is neither uploaded nor sent again.
                if is_last or position + len(some) > job.counts.total:
                    await self._add(service, job, await self._items(service, some), position, closed=is_last)
                position += len(some)
        except BaseException as error:
            await self._break_off(service, job, error)
            raise
        return job if position == len(first) else await _read(service, job)

    async def _open(self, service: Service, items: list[str | ItemRequest], *, closed: bool) -> JobDetail:
        fields = {
            "items": items,
            "model": self.model,
            "priority": self.priority,
            "options": self.options or EmbedOptions(),
            "labels": self.labels,
            "webhook": self.webhook,
            "closed": closed,
        }
        body, key = _checked(JobRequest, fields), self.idempotency_key or str(uuid.uuid4())
        try:
            return await service.call("POST", "/v1/jobs", JobDetail, body=body, headers={"idempotency-key": key})
        except BaseException as error:
            if isinstance(error, ServiceFailed) or not isinstance(error, ServiceError):
                error.add_note(f"if the job was made all the same, submit(..., idempotency_key={key!r}) finds it")
            raise

    async def _add(
        self, service: Service, job: JobDetail, items: list[str | ItemRequest], position: int, *, closed: bool
    ) -> None:
        body = _checked(ItemsRequest, {"items": items, "first_position": position, "closed": closed})
        await service.call("POST", f"/v1/jobs/{job.id}/items", Added, body=body)

    async def _break_off(self, service: Service, job: JobDetail, error: BaseException) -> None:
        if self.idempotency_key is not None:
            error.add_note(f"job {job.id} is still open: submit the same again with this idempotency_key to go on")
            return
        try:
            await service.call("POST", f"/v1/jobs/{job.id}/cancel", JobDetail)
        except ClientError as second:
            error.add_note(f"job {job.id} is still open, and cancelling it failed too ({second}): cancel it later")
        else:
            error.add_note(f"job {job.id}, which had a part of the items, was cancelled")

    async def _items(self, service: Service, sources: list[Submittable]) -> list[str | ItemRequest]:
        paths = {path for source in sources if (path := _local_path(source)) is not None}
        uploaded = {path: kept.source async for path, kept in _uploads(service, paths)}
        return [self._item(source, uploaded) for source in sources]

    def _item(self, source: Submittable, uploaded: dict[Path, str]) -> str | ItemRequest:
        path = _local_path(source)
        item = source if isinstance(source, ItemRequest) else None
        reference = uploaded[path] if path is not None else item.source if item else str(source)
        if item is None and self.kind is MediaKind.AUTO:
            return reference
        kind = item.kind if item is not None and "kind" in item.model_fields_set else self.kind
        return _checked(ItemRequest, {"source": reference, "kind": kind, "options": item.options if item else None})


async def upload(service: Service, path: Path) -> Upload:
    """Hand a local file to the service.

    Raises:
        OSError: the file cannot be read.
    """
    body = FileBody(path)
    # A file's name need not be text; it is kept for people to read.
    name = os.fsencode(path.name).decode(errors="replace")
    return await service.call("POST", "/v1/uploads", Upload, params={"name": name}, body=body)


async def _uploads(service: Service, paths: Iterable[Path]) -> AsyncIterator[tuple[Path, Upload]]:
    async def one(path: Path) -> tuple[Path, Upload]:
        return path, await upload(service, path)

    async for done in each(service.network.crew(), one, _one_by_one(paths), concurrency=_UPLOADS):
        yield done


async def _one_by_one(paths: Iterable[Path]) -> AsyncIterator[Path]:
    for path in paths:
        yield path


async def _read(service: Service, job: JobDetail) -> JobDetail:
    return await service.call("GET", f"/v1/jobs/{job.id}", JobDetail)


def _calls(sources: Iterable[Submittable]) -> Iterator[tuple[list[Submittable], bool]]:
    """The sources of each call, and whether it is the last; at least one, which may be empty."""
    iterator = iter(sources)
    some = list(islice(iterator, ITEMS_PER_CALL))
    while following := list(islice(iterator, ITEMS_PER_CALL)):
        yield some, False
        some = following
    yield some, True


def _local_path(source: Submittable) -> Path | None:
    """The local file that is meant; None for a reference, which has a scheme."""
    if isinstance(source, ItemRequest):
        source = source.source
    if isinstance(source, str) and "://" in source:
        return None
    return Path(source)


def _checked(kind: type[AnyRequest], fields: Mapping[str, object]) -> AnyRequest:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidArgument(faults) from error
