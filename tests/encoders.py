"""Encoders without a model: one exact, and as slow and as deadly as asked; one that costs nothing."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glm4v_client.artefact import ITEM_BYTES
from glm4v_client.states import MediaKind
from worker.encoding import EncodeRequest, Tokens
from worker.errors import InvalidOptions

#: A picture of nothing but this grey kills the process of a deadly encoder.
DEADLY_GREY = 66


class SimulatedEncoder:
    """Tokens are sums over pixels: equal for equal media whatever shared the batch, and wrong if a patch is.

    Like a GPU it is busy for a while with each batch, one after the other, while its thread goes on.
    """

    dim = 8
    patches_per_token = 4
    device = "cpu"
    runs_ahead = True
    identity: Mapping[str, Any] = {"encoder": "simulated"}

    def __init__(
        self, *, batch_seconds: float = 0.0, item_seconds: float = 0.0, deadly: bool = False, hangs: bool = False
    ) -> None:
        """
        Args:
            batch_seconds: for which each batch keeps the device busy, and `item_seconds` more for each item in it.
            deadly: end the process at the sight of a picture that is all DEADLY_GREY, as a driver's fault would.
            hangs: never answer, once a picture is not black as the engine's first ones are.
        """
        self._batch_seconds = batch_seconds
        self._item_seconds = item_seconds
        self._deadly = deadly
        self._hangs = hangs
        self._free_at = 0.0

    def processor_settings(self, kind: MediaKind, options: Mapping[str, Any]) -> dict[str, Any]:
        if options.keys() - {"dtype"}:
            raise InvalidOptions(f"the simulated encoder takes no {kind} options")
        return {}

    def start(self, batch: Sequence[EncodeRequest]) -> SimulatedForward:
        self._free_at = max(self._free_at, time.monotonic())
        self._free_at += self._batch_seconds + self._item_seconds * len(batch)
        if self._hangs and any(np.frombuffer(request.patches, dtype=np.uint8).any() for request in batch):
            self._free_at = math.inf
        return SimulatedForward([self._tokens(request) for request in batch], ready_at=self._free_at)

    def _tokens(self, request: EncodeRequest) -> Tokens:
        pixels = np.frombuffer(request.patches, dtype=np.uint8)
        if self._deadly and (pixels == DEADLY_GREY).all():
            os.kill(os.getpid(), signal.SIGKILL)
        # Below 2**24, so the sums are exact in float32.
        sums = pixels.reshape(-1, self.dim, self.patches_per_token * request.width // self.dim).sum(2, dtype=np.float32)
        stored = _converted(sums, request.dtype)
        return Tokens(data=stored.data.cast("B"), shape=(len(sums), self.dim), dtype=request.dtype)


class SimulatedForward:
    def __init__(self, tokens: list[Tokens], *, ready_at: float) -> None:
        self._tokens = tokens
        self._ready_at = ready_at

    def tokens(self) -> list[Tokens]:
        threading.Event().wait(min(max(0.0, self._ready_at - time.monotonic()), threading.TIMEOUT_MAX))
        return self._tokens


class NullEncoder:
    """Answers at once, with zeros."""

    patches_per_token = 4
    device = "cpu"
    runs_ahead = False

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.identity: Mapping[str, Any] = {"encoder": "null"}

    def processor_settings(self, kind: MediaKind, options: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def start(self, batch: Sequence[EncodeRequest]) -> SimulatedForward:
        return SimulatedForward([self._zeros(request) for request in batch], ready_at=0.0)

    def _zeros(self, request: EncodeRequest) -> Tokens:
        rows = request.segments * request.segment_patches // self.patches_per_token
        size = rows * self.dim * ITEM_BYTES[request.dtype]
        return Tokens(data=memoryview(bytes(size)), shape=(rows, self.dim), dtype=request.dtype)


def _converted(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        # Its bits are the upper half of a float32's.
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(dtype)
