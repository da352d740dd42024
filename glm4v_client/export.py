"""A job's tokens in the formats that training programs stream: shards of bounded size, each whole or not there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from glm4v_client.client import ItemHandle, JobHandle
from glm4v_client.errors import ClientError, InvalidArgument
from glm4v_client.visual_tokens import VisualTokens

#: Bytes after which a new shard begins.
SHARD_BYTES = 2**30


class ExportFormat(StrEnum):
    WEBDATASET = "webdataset"  #: tar files; of each item a safetensors and a json member
    PARQUET = "parquet"  #: one row an item; needs pyarrow


class Shard(Protocol):
    """A file of many items that is being written."""

    #: Bytes of tokens in it so far.
    size: int

    def add(self, item: ItemHandle, tokens: VisualTokens) -> None: ...


#: Opens a shard; it gets its name when the block ends well.
OpenShard = Callable[[Path], AbstractContextManager[Shard]]


@dataclass(kw_only=True)
class ExportSummary:
    """What became of a job's items."""

    directory: Path
    items: int = 0
    byte_size: int = 0  #: of their artefacts
    shards: list[Path] = field(default_factory=list)
    failed: list[tuple[ItemHandle, ClientError]] = field(default_factory=list)  #: could not be fetched
    without_embedding: Counter[str] = field(default_factory=Counter)  #: other items, by error code or else state

    @property
    def is_complete(self) -> bool:
        """Whether every item of the job is in a shard."""
        return not self.failed and not self.without_embedding


def export(
    job: JobHandle,
    directory: str | Path,
    *,
    format: ExportFormat | str,  # noqa: A002 - what the option is called
    concurrency: int = 4,
    shard_bytes: int = SHARD_BYTES,
    on_item: Callable[[ItemHandle], None] | None = None,
) -> ExportSummary:
    """Write a job's embeddings into `job-00000.tar`, or `.parquet`, and so on: in the job's order, as they are fetched.

    Args:
        directory: made if missing.
        concurrency: artefacts that are fetched at once; so many are in memory.
        shard_bytes: a shard that has so many bytes of tokens is full.
        on_item: called after each item that was written.

    Raises:
        InvalidArgument: the directory has shards already, or there is no such format.
        ImportError: the format needs a package that is not installed.
        ClientError: the job's items cannot be listed.
        OSError: a shard cannot be written.
    """
    exporter = _Export(Path(directory), ExportFormat(format), shard_bytes)
    with closing(_fetched(job.items(), exporter.summary, concurrency)) as fetched:
        exporter.write(fetched, on_item)
    return exporter.summary


class _Export:
    def __init__(self, directory: Path, format: ExportFormat, shard_bytes: int) -> None:  # noqa: A002
        if shard_bytes < 1:
            raise InvalidArgument(f"shard_bytes is {shard_bytes}: give 1 or more")
        self._open, self._suffix = _opener(format)
        self._shard_bytes = shard_bytes
        self.summary = ExportSummary(directory=directory)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.glob(f"job-*{self._suffix}")):
            raise InvalidArgument(f"{directory} has shards already: choose another directory, or remove them")

    def write(
        self, fetched: Iterator[tuple[ItemHandle, VisualTokens]], on_item: Callable[[ItemHandle], None] | None
    ) -> None:
        entry = next(fetched, None)
        while entry is not None:
            path = self.summary.directory / f"job-{len(self.summary.shards):05}{self._suffix}"
            with self._open(path) as shard:
                while entry is not None and shard.size < self._shard_bytes:
                    item, tokens = entry
                    shard.add(item, tokens)
                    self._count(item, tokens, on_item)
                    entry = next(fetched, None)
            self.summary.shards.append(path)

    def _count(self, item: ItemHandle, tokens: VisualTokens, on_item: Callable[[ItemHandle], None] | None) -> None:
        self.summary.items += 1
        self.summary.byte_size += len(tokens.content)
        if on_item is not None:
            on_item(item)


def _opener(format: ExportFormat) -> tuple[OpenShard, str]:  # noqa: A002
    if format is ExportFormat.WEBDATASET:
        from glm4v_client.webdataset_shard import open_webdataset_shard

        return open_webdataset_shard, ".tar"
    try:
        from glm4v_client.parquet_shard import open_parquet_shard
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'glm4v-embed[parquet]'") from error
    return open_parquet_shard, ".parquet"


def _fetched(
    items: Iterator[ItemHandle], summary: ExportSummary, concurrency: int
) -> Generator[tuple[ItemHandle, VisualTokens]]:
    """Each item's tokens, in order, with a few fetched ahead."""
    under_way: deque[tuple[ItemHandle, Future[VisualTokens]]] = deque()
    threads = ThreadPoolExecutor(concurrency, thread_name_prefix="export")
    try:
        for item in items:
            if item.record.embedding is None:
                summary.without_embedding[item.error.code if item.error else item.state.value] += 1
                continue
            under_way.append((item, threads.submit(item.embedding)))
            if len(under_way) >= concurrency:
                yield from _first(under_way, summary)
        while under_way:
            yield from _first(under_way, summary)
    finally:
        threads.shutdown(cancel_futures=True)


def _first(
    under_way: deque[tuple[ItemHandle, Future[VisualTokens]]], summary: ExportSummary
) -> Iterator[tuple[ItemHandle, VisualTokens]]:
    item, tokens = under_way.popleft()
    try:
        yield item, tokens.result()
    except ClientError as error:
        summary.failed.append((item, error))
