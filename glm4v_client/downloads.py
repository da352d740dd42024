"""A job's artefacts in a directory: several at once, each whole or not there, gone on with by the same call."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from glm4v_client.artefact import read_artefact_header
from glm4v_client.crew import each
from glm4v_client.errors import ClientError, InvalidArgument
from glm4v_client.fetching import fetch
from glm4v_client.records import Embedding, Item, Page
from glm4v_client.service import Service
from glm4v_client.whole_file import whole_file


class DownloadState(StrEnum):
    WRITTEN = "written"  #: its file is new
    KEPT = "kept"  #: its file was there already
    FAILED = "failed"  #: it has an embedding, which could not be had
    WITHOUT_EMBEDDING = "without_embedding"  #: it failed, was cancelled, or is not done


@dataclass(frozen=True, kw_only=True)
class Download:
    """What became of one item."""

    item: Item
    state: DownloadState
    path: Path | None = None  #: its file, if it is there
    error: ClientError | None = None  #: why not, where that was the download's fault


@dataclass(kw_only=True)
class DownloadSummary:
    """What became of a job's items. The files' own number does not matter to its size, only that of what failed."""

    directory: Path
    written: int = 0
    kept: int = 0
    byte_size: int = 0  #: of the files written
    failed: list[Download] = field(default_factory=list)  #: have an embedding, which could not be had
    without_embedding: Counter[str] = field(default_factory=Counter)  #: other items, by error code or else state

    @property
    def is_complete(self) -> bool:
        """Whether every item of the job has its file."""
        return not self.failed and not self.without_embedding

    def count(self, download: Download) -> None:
        item = download.item
        match download.state:
            case DownloadState.WRITTEN:
                self.written += 1
                self.byte_size += item.embedding.byte_size if item.embedding else 0
            case DownloadState.KEPT:
                self.kept += 1
            case DownloadState.FAILED:
                self.failed.append(download)
            case DownloadState.WITHOUT_EMBEDDING:
                self.without_embedding[item.error.code if item.error else item.state.value] += 1


def file_name(item: Item) -> str:
    """The name of an item's file: its place in the job. A source's own name is nobody's to trust."""
    return f"{item.position:08}.safetensors"


async def download(
    service: Service,
    job_id: UUID,
    directory: Path,
    *,
    concurrency: int,
    on_file: Callable[[Download], None] | None,
) -> DownloadSummary:
    """Have every artefact of a job in a directory. See AsyncJobHandle.download."""
    if concurrency < 1:
        raise InvalidArgument(f"concurrency is {concurrency}: give 1 or more")

    async def one(item: Item) -> Download:
        return await _download(service, item, directory / file_name(item))

    summary = DownloadSummary(directory=directory)
    with _locked(directory):
        items = service.pages(f"/v1/jobs/{job_id}/items", Page[Item])
        async with aclosing(each(service.network.crew(), one, items, concurrency=concurrency)) as downloads:
            async for done in downloads:
                summary.count(done)
                if on_file is not None:
                    on_file(done)
    return summary


async def _download(service: Service, item: Item, path: Path) -> Download:
    wanted = item.embedding
    if wanted is None:
        return Download(item=item, state=DownloadState.WITHOUT_EMBEDDING)
    if await service.network.run(lambda: _is_there(path, wanted)):
        return Download(item=item, state=DownloadState.KEPT, path=path)
    try:
        with whole_file(path) as file:
            await fetch(service, item, file)
            # Here an event loop goes on meanwhile; then little is left to wait for.
            await service.network.run(lambda: os.fsync(file.fileno()))
    except ClientError as error:
        return Download(item=item, state=DownloadState.FAILED, error=error)
    return Download(item=item, state=DownloadState.WRITTEN, path=path)


def _is_there(path: Path, wanted: Embedding) -> bool:
    """Whether the file is this artefact's. It is whole, so that its size and what its header says decide."""
    try:
        with path.open("rb") as file:
            header = read_artefact_header(file)
            size = file.seek(0, os.SEEK_END)
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return (header.content_sha256, header.fingerprint, size) == (
        wanted.content_sha256,
        wanted.fingerprint,
        wanted.byte_size,
    )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make the directory and keep other downloads out of it; the lock ends with this process, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidArgument(f"another download into {directory} is under way: wait, or choose another") from error
        yield
