"""An encoder without a model: each token is the mean of its four patches, so that every row can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from glm4v_client.states import MediaKind
from worker.encoding import EncodeRequest, Tokens

DIM = 8


def expected_tokens(request: EncodeRequest) -> np.ndarray:
    """What the fake makes of a request: float32 (tokens, DIM)."""
    patches = np.frombuffer(request.patches, dtype=np.uint8).reshape(-1, 4 * request.width)
    return np.repeat(patches.astype(np.float32).mean(axis=1, keepdims=True), DIM, axis=1)


class FakeForward:
    def __init__(self, batch: Sequence[EncodeRequest]) -> None:
        self._batch = batch

    def tokens(self) -> list[Tokens]:
        return [_as_tokens(expected_tokens(request), request.dtype) for request in self._batch]


class FakeEncoder:
    """Keeps what it was given; `before` runs in the engine's thread before each forward and may raise."""

    device = "cpu"
    dim = DIM
    patches_per_token = 4

    def __init__(
        self, *, before: Callable[[Sequence[EncodeRequest]], None] = lambda _: None, runs_ahead: bool = False
    ) -> None:
        self.identity: Mapping[str, Any] = {"weights_sha256": "fake"}
        self.runs_ahead = runs_ahead
        self.batches: list[list[EncodeRequest]] = []
        self._before = before

    def processor_settings(self, kind: MediaKind, options: Mapping[str, Any]) -> dict[str, Any]:
        names = (
            ("min_pixels", "max_pixels")
            if kind is MediaKind.IMAGE
            else ("min_pixels", "max_pixels", "fps", "max_frames")
        )
        chosen = {name: options[name] for name in names if name in options}
        budget = 9_633_792 if kind is MediaKind.IMAGE else 47_040_000
        return {"size": {"shortest_edge": 112 * 112, "longest_edge": budget}, **chosen}

    def start(self, batch: Sequence[EncodeRequest]) -> FakeForward:
        self._before(batch)
        self.batches.append(list(batch))
        return FakeForward(batch)


def _as_tokens(rows: np.ndarray, dtype: str) -> Tokens:
    if dtype == "bfloat16":
        data = (rows.view(np.uint32) >> 16).astype(np.uint16)
    else:
        data = rows.astype(dtype)
    return Tokens(data=memoryview(np.ascontiguousarray(data)).cast("B"), shape=rows.shape, dtype=dtype)
