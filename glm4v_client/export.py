"""Tokens in the formats that training programs stream: shards of bounded size, each whole or not there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from glm4v_client.artefact_source import ArtefactSource, open_source
from glm4v_client.client import JobHandle
from glm4v_client.errors import ClientError, InvalidArgument
from glm4v_client.exported_item import Exportable
from glm4v_client.visual_tokens import VisualTokens

#: Bytes after which a new shard begins.
SHARD_BYTES = 2**30
#: Artefacts that are fetched at once; so many are in memory.
CONCURRENCY = 4


class ExportFormat(StrEnum):
    WEBDATASET = "webdataset"  #: tar files; of each item a safetensors and a json member
    PARQUET = "parquet"  #: one row an item; needs pyarrow


class Shard(Protocol):
    """A file of many items that is being written."""

    #: Bytes of tokens in it so far.
    size: int

    def add(self, item: Exportable, tokens: VisualTokens) -> None: ...


#: Opens a shard; it gets its name when the block ends well.
OpenShard = Callable[[Path], AbstractContextManager[Shard]]
#: Called after each item that was written.
OnItem = Callable[[Exportable], None]


@dataclass(kw_only=True)
class ExportSummary:
    """What became of the items."""

    directory: Path
    items: int = 0
    byte_size: int = 0  #: of their artefacts
    shards: list[Path] = field(default_factory=list)
    failed: list[tuple[Exportable, ClientError]] = field(default_factory=list)  #: could not be fetched, or are damaged
    without_embedding: Counter[str] = field(default_factory=Counter)  #: other items, by error code or else state

    @property
    def is_complete(self) -> bool:
        """Whether every item is in a shard."""
        return not self.failed and not self.without_embedding


def export(
    job: JobHandle,
    directory: str | Path,
    *,
    format: ExportFormat | str,  # noqa: A002 - what the option is called
    concurrency: int = CONCURRENCY,
    shard_bytes: int = SHARD_BYTES,
    on_item: OnItem | None = None,
) -> ExportSummary:
    """Write a job's embeddings into `job-00000.tar`, or `.parquet`, and so on: in the job's order, as they are fetched.

    Args:
        directory: made if missing.
        shard_bytes: a shard that has so many bytes of tokens is full.

    Raises:
        InvalidArgument: the directory has shards already, or a number makes no sense.
        ValueError: there is no such format.
        ImportError: the format needs a package that is not installed.
        ClientError: the job's items cannot be listed.
        OSError: a shard cannot be written.
    """
    exporter = _Export(Path(directory), "job", ExportFormat(format), shard_bytes, concurrency)
    return exporter.write(_of_job(job, exporter.summary), on_item)


def export_stored(
    place: str | Path,
    directory: str | Path,
    *,
    format: ExportFormat | str,  # noqa: A002 - as above
    keys: Sequence[str] | None = None,
    concurrency: int = CONCURRENCY,
    shard_bytes: int = SHARD_BYTES,
    on_item: OnItem | None = None,
) -> ExportSummary:
    """Write stored artefacts into `store-00000.tar`, or `.parquet`, and so on, without asking a service.

    Args:
        place: a directory, or `s3://bucket/prefix?endpoint=...`, as `artefact_source.open_source` takes it.
        keys: which artefacts and in which order; all that are there, sorted by key, when None.
        directory, shard_bytes: as for `export`.

    Raises:
        As `export`; and what the place raises when it cannot be read.
    """
    source = open_source(place)
    exporter = _Export(Path(directory), "store", ExportFormat(format), shard_bytes, concurrency)
    return exporter.write(_of_source(source, keys), on_item)


class _Export:
    """One export under way."""

    def __init__(
        self,
        directory: Path,
        name: str,
        layout: ExportFormat,
        shard_bytes: int,
        concurrency: int,
    ) -> None:
        if min(shard_bytes, concurrency) < 1:
            raise InvalidArgument(f"shard_bytes is {shard_bytes}, concurrency {concurrency}: give 1 or more")
        self._open, self._suffix = _opener(layout)
        self._name = name
        self._shard_bytes = shard_bytes
        self._concurrency = concurrency
        self.summary = ExportSummary(directory=directory)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.glob(f"{name}-*{self._suffix}")):
            raise InvalidArgument(f"{directory} has shards already: choose another directory, or remove them")

    def write(self, items: Iterable[Exportable], on_item: OnItem | None) -> ExportSummary:
        with closing(self._fetched(items)) as fetched:
            entry = next(fetched, None)
            while entry is not None:
                path = self.summary.directory / f"{self._name}-{len(self.summary.shards):05}{self._suffix}"
                with self._open(path) as shard:
                    while entry is not None and shard.size < self._shard_bytes:
                        self._add(shard, *entry)
                        if on_item is not None:
                            on_item(entry[0])
                        entry = next(fetched, None)
                self.summary.shards.append(path)
        return self.summary

    def _add(self, shard: Shard, item: Exportable, tokens: VisualTokens) -> None:
        shard.add(item, tokens)
        self.summary.items += 1
        self.summary.byte_size += len(tokens.content)

    def _fetched(self, items: Iterable[Exportable]) -> Generator[tuple[Exportable, VisualTokens]]:
        """Each item's tokens, in order, with a few fetched ahead."""
        under_way: deque[tuple[Exportable, Future[VisualTokens]]] = deque()
        threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="export")
        try:
            for item in items:
                under_way.append((item, threads.submit(item.load)))
                if len(under_way) >= self._concurrency:
                    yield from self._first(under_way)
            while under_way:
                yield from self._first(under_way)
        finally:
            threads.shutdown(cancel_futures=True)

    def _first(
        self, under_way: deque[tuple[Exportable, Future[VisualTokens]]]
    ) -> Iterator[tuple[Exportable, VisualTokens]]:
        item, tokens = under_way.popleft()
        try:
            yield item, tokens.result()
        except ClientError as error:
            self.summary.failed.append((item, error))


def _of_job(job: JobHandle, summary: ExportSummary) -> Iterator[Exportable]:
    for item in job.items():
        if item.record.embedding is None:
            summary.without_embedding[item.error.code if item.error else item.state.value] += 1
        else:
            yield Exportable(position=item.position, source=item.source, item_id=item.id, load=item.embedding)


def _of_source(source: ArtefactSource, keys: Sequence[str] | None) -> Iterator[Exportable]:
    for position, key in enumerate(source.keys() if keys is None else keys):
        yield Exportable(position=position, source=key, item_id=None, load=partial(_read, source, key))


def _read(source: ArtefactSource, key: str) -> VisualTokens:
    return VisualTokens(source.read(key))


def _opener(layout: ExportFormat) -> tuple[OpenShard, str]:
    if layout is ExportFormat.WEBDATASET:
        from glm4v_client.webdataset_shard import open_webdataset_shard

        return open_webdataset_shard, ".tar"
    try:
        from glm4v_client.parquet_shard import open_parquet_shard
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'glm4v-embed[parquet]'") from error
    return open_parquet_shard, ".parquet"
