"""Stored visual tokens as torch.utils.data datasets. Needs torch, and minio where they lie in a bucket.

from torch.utils.data import DataLoader
from glm4v_client.training import ArtefactStream, pack

stream = ArtefactStream("s3://media/embeddings?endpoint=http://minio:9000", shuffle=True)
for batch in DataLoader(stream, batch_size=16, num_workers=4, collate_fn=pack):
    batch["embeddings"], batch["grid_thw"]
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from glm4v_client.artefact import read_artefact
from glm4v_client.artefact_source import ArtefactSource, open_source
from glm4v_client.errors import InvalidArgument
from glm4v_client.restoring import to_torch


class Sample(TypedDict):
    """One image or video."""

    #: `(tokens, dim)`, bfloat16 unless stored as float16 or float32.
    embeddings: Tensor
    #: int64 `(3,)`: patches along time, height and width.
    grid_thw: Tensor
    #: float64 `(t,)`, seconds; empty for an image.
    timestamps: Tensor
    #: int64; empty for an image.
    frame_indices: Tensor
    #: image or video.
    kind: str
    #: Where it was read.
    key: str
    #: Of the source's bytes: what the sample is joined with its text by.
    content_sha256: str


class Packed(TypedDict):
    """Samples end to end, as the language model's placeholders take them."""

    #: `(sum of tokens, dim)`.
    embeddings: Tensor
    #: int64 `(samples,)`: how many of the rows are each sample's.
    lengths: Tensor
    #: int64 `(samples, 3)`.
    grid_thw: Tensor
    timestamps: list[Tensor]
    frame_indices: list[Tensor]
    kind: list[str]
    key: list[str]
    content_sha256: list[str]


def pack(samples: Sequence[Sample]) -> Packed:
    """For `DataLoader(collate_fn=pack)`: no padding."""
    return Packed(
        embeddings=torch.cat([sample["embeddings"] for sample in samples]),
        lengths=torch.tensor([len(sample["embeddings"]) for sample in samples]),
        grid_thw=torch.stack([sample["grid_thw"] for sample in samples]),
        timestamps=[sample["timestamps"] for sample in samples],
        frame_indices=[sample["frame_indices"] for sample in samples],
        kind=[sample["kind"] for sample in samples],
        key=[sample["key"] for sample in samples],
        content_sha256=[sample["content_sha256"] for sample in samples],
    )


class ArtefactDataset(Dataset[Sample]):
    """Map-style: any artefact at any time, for a sampler of your own."""

    def __init__(self, place: str | Path, *, keys: Sequence[str] | None = None) -> None:
        """
        Args:
            place: a directory, or `s3://bucket/prefix?endpoint=...`, as `artefact_source.open_source` takes it.
            keys: which artefacts and in which order, for example the `object_key` of a job's items; all that are there,
                sorted by key, when None.

        Raises:
            InvalidArgument: there is no such place, or nothing in it.
        """
        self._source = open_source(place)
        self.keys = _keys(self._source, keys, place)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        return _sample(self._source, self.keys[index])


class ArtefactStream(IterableDataset[Sample]):
    """Streaming: every artefact once an epoch, read ahead, split among ranks and among the loader's workers."""

    def __init__(
        self,
        place: str | Path,
        *,
        keys: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = True,
        read_ahead: int = 8,
    ) -> None:
        """
        Args:
            place, keys: as for ArtefactDataset.
            shuffle: another order each epoch, the same one on every rank; call `set_epoch` before each.
            rank, world_size: those of torch.distributed, if it has been initialised, else one rank of one.
            even: leave out the last few artefacts, so that every rank has equally many and none waits for another.
            read_ahead: artefacts that are fetched while one is used, in each of the loader's workers.

        Raises:
            InvalidArgument: there is no such place, nothing in it, or less than one artefact a rank.
        """
        self._source = open_source(place)
        self.keys = _keys(self._source, keys, place)
        # Asked for here: the loader's workers belong to no process group.
        in_group = distributed.is_available() and distributed.is_initialized()
        self._rank = rank if rank is not None else distributed.get_rank() if in_group else 0
        self._world_size = world_size if world_size is not None else distributed.get_world_size() if in_group else 1
        self._shuffle, self._seed = shuffle, seed
        self._even = even
        self._read_ahead = read_ahead
        # Shared: workers that live on from epoch to epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if not 0 <= self._rank < self._world_size:
            raise InvalidArgument(f"rank {self._rank} of {self._world_size}: count ranks from 0")
        if not len(self):
            raise InvalidArgument(f"{len(self.keys)} artefacts cannot be split among {self._world_size} ranks")

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._share())

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return self._read(self._share()[worker::workers])

    def _share(self) -> list[str]:
        """This rank's keys of this epoch, in order."""
        count = len(self.keys)
        order: list[int] = list(range(count))
        if self._shuffle:
            generator = torch.Generator().manual_seed(self._seed + int(self._epoch))
            order = torch.randperm(count, generator=generator).tolist()
        if self._even:
            order = order[: count - count % self._world_size]
        return [self.keys[index] for index in order[self._rank :: self._world_size]]

    def _read(self, keys: Sequence[str]) -> Iterator[Sample]:
        threads = ThreadPoolExecutor(self._read_ahead, thread_name_prefix="artefacts")
        under_way: deque[Future[Sample]] = deque()
        try:
            for key in keys:
                under_way.append(threads.submit(_sample, self._source, key))
                if len(under_way) > self._read_ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def _keys(source: ArtefactSource, chosen: Sequence[str] | None, place: str | Path) -> list[str]:
    keys = list(chosen) if chosen is not None else source.keys()
    if not keys:
        raise InvalidArgument(f"there is no artefact in {place}")
    return keys


def _sample(source: ArtefactSource, key: str) -> Sample:
    try:
        artefact = read_artefact(io.BytesIO(source.read(key)))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{key} is not a whole artefact: {error}") from error
    header = artefact.header
    return Sample(
        embeddings=to_torch(artefact),
        grid_thw=torch.tensor(header.grid_thw),
        timestamps=torch.tensor(header.timestamps or (), dtype=torch.float64),
        frame_indices=torch.tensor(header.frame_indices or (), dtype=torch.int64),
        kind=header.kind.value,
        key=key,
        content_sha256=header.content_sha256,
    )
