"""What travels between the pipeline, the engine and an encoder. No torch: patches and tokens are bytes with a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from glm4v_client.options import StoredDtype
from glm4v_client.states import MediaKind

_NO_SCALES = memoryview(b"")


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """Segments of one item, cut into patches."""

    #: uint8 (t*h*w, width), rows in order.
    patches: memoryview
    grid_thw: tuple[int, int, int]
    #: Of the tokens that come back.
    dtype: StoredDtype
    #: Share no forward with other items.
    alone: bool = False

    @property
    def segments(self) -> int:
        return self.grid_thw[0]

    @property
    def segment_patches(self) -> int:
        return self.grid_thw[1] * self.grid_thw[2]

    @property
    def width(self) -> int:
        """Bytes of one patch: 588 of an image, which has one frame, and twice that of a clip."""
        return len(self.patches) // (self.segments * self.segment_patches)

    def part(self, start: int, segments: int) -> EncodeRequest:
        """`segments` of the segments from `start`, without a copy."""
        size = self.segment_patches * self.width
        return replace(
            self,
            patches=self.patches[start * size : (start + segments) * size],
            grid_thw=(segments, *self.grid_thw[1:]),
        )


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Visual tokens, as they are stored."""

    #: Little-endian rows (n, dim).
    data: memoryview
    shape: tuple[int, int]
    dtype: StoredDtype
    #: Little-endian float32 (n,), by which the rows are multiplied; empty where the dtype needs none.
    scales: memoryview = _NO_SCALES


def join(parts: Sequence[Tokens]) -> Tokens:
    """One after the other; without a copy if there is only one."""
    if len(parts) == 1:
        return parts[0]
    rows = sum(part.shape[0] for part in parts)
    return Tokens(
        data=memoryview(bytearray().join(part.data for part in parts)),
        shape=(rows, parts[0].shape[1]),
        dtype=parts[0].dtype,
        scales=memoryview(bytearray().join(part.scales for part in parts)),
    )


class Forward(Protocol):
    """A batch on its way through the device."""

    def tokens(self) -> list[Tokens]:
        """Wait for the tokens of each request of the batch."""
        ...


class OutOfDeviceMemory(Exception):  # noqa: N818 - the field's own words
    """The batch does not fit into the device's memory."""


class Encoder(Protocol):
    """A vision tower. One thread uses it."""

    #: Numbers in one token.
    dim: int
    #: Patches that become one token.
    patches_per_token: int
    #: Where it computes, for people: cpu, cuda:0.
    device: str
    #: Whether `start` returns while the device is still busy, so that the next batch can be prepared meanwhile.
    runs_ahead: bool
    #: What its tokens depend on besides the pixels: the weights, the number format it computes in.
    identity: Mapping[str, Any]

    def processor_settings(self, kind: MediaKind, options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the processor for this kind of media, with an item's options, as JSON.

        Raises:
            InvalidOptions: this model cannot do what an option asks for.
        """
        ...

    def start(self, batch: Sequence[EncodeRequest]) -> Forward:
        """Begin to encode, and return while the device is still busy if it can work by itself.

        Raises:
            OutOfDeviceMemory: here, or from `Forward.tokens`.
        """
        ...
