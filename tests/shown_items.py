"""Items whose artefacts are in a store, made without a model: what the status page shows."""

from __future__ import annotations

import uuid

import numpy as np

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from worker.artefact import ArtefactWriter, new_artefact_key
from worker.pipeline import embedding_record
from worker.records import ClaimedItem, Succeeded
from worker.storage import Storage

DIM = 16


def store_video(storage: Storage, item: ClaimedItem, *, times: int = 3, rows: int = 4, columns: int = 6) -> Succeeded:
    """A success of tokens that turn smoothly over time and picture."""
    header = ArtefactHeader(
        kind=MediaKind.VIDEO,
        model=item.model,
        fingerprint="f" * 64,
        content_sha256=uuid.uuid4().hex * 2,
        dtype="float32",
        num_tokens=times * rows * columns,
        dim=DIM,
        grid_thw=(times, 2 * rows, 2 * columns),
        timestamps=tuple(0.5 * time for time in range(times)),
        frame_indices=tuple(range(0, 12 * times, 6)),
    )
    key = new_artefact_key(header.fingerprint, header.content_sha256)
    with storage.writer(key) as object_:
        artefact = ArtefactWriter(object_, header)
        artefact.write(_waves(times, rows, columns))
        artefact.finish()
    embedding = embedding_record(header, key, object_)
    timings = {"fetch": 0.31, "lookup": 0.002, "decode": 0.72, "wait": 0.05, "encode": 0.12, "store": 0.09}
    return Succeeded(item=item, embedding=embedding, timings={**timings, "total": 1.3})


def _waves(times: int, rows: int, columns: int) -> bytes:
    time, row, column = np.meshgrid(np.arange(times), np.arange(rows), np.arange(columns), indexing="ij")
    place = np.stack([row / rows, column / columns, time / times], axis=-1).reshape(-1, 3)
    directions = np.random.default_rng(7).normal(size=(3, DIM))
    return np.ascontiguousarray(np.sin(place @ directions * 2), dtype="<f4").tobytes()
