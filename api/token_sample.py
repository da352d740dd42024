"""Some of an artefact's temporal patches, read without the others: a clip of an hour has gigabytes of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from glm4v_client.artefact import Artefact, ArtefactHeader, read_artefact_header
from worker.records import EmbeddingRecord
from worker.storage import Storage


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread, the first among them."""
    taken = min(count, most)
    return [number * count // taken for number in range(taken)]


def read_sample(storage: Storage, embedding: EmbeddingRecord, times: Sequence[int]) -> Artefact:
    """An artefact of these temporal patches alone; its header counts only them.

    Raises:
        ObjectMissing: the store has no such object.
        ValueError: it is not a whole artefact.
    """
    with closing(storage.open(embedding.object_key)) as file:
        header = read_artefact_header(file)
    first_row = embedding.byte_size - header.embeddings_bytes - header.scales_bytes
    rows = _parts(storage, embedding.object_key, first_row, header.embeddings_bytes, header, times)
    scales = _parts(
        storage, embedding.object_key, first_row + header.embeddings_bytes, header.scales_bytes, header, times
    )
    return Artefact(header=_header_of(header, times), embeddings=rows, scales=scales)


def _parts(storage: Storage, key: str, start: int, length: int, header: ArtefactHeader, times: Sequence[int]) -> bytes:
    """What belongs to some temporal patches, of a stretch in which every one has an equal share."""
    share = length // header.grid_thw[0]
    return b"".join(_read(storage, key, start + time * share, share) for time in times if share)


def _read(storage: Storage, key: str, start: int, length: int) -> bytes:
    with closing(storage.open(key, start, length)) as file:
        data = file.read()
    if len(data) != length:
        raise ValueError(f"{key} ends within its rows")
    return data


def _header_of(header: ArtefactHeader, times: Sequence[int]) -> ArtefactHeader:
    whole, height, width = header.grid_thw
    return replace(
        header,
        num_tokens=header.num_tokens // whole * len(times),
        grid_thw=(len(times), height, width),
        timestamps=None if header.timestamps is None else tuple(header.timestamps[time] for time in times),
        frame_indices=None,
    )
