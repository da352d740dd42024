"""Parts of a video that can be decoded by themselves, so that parts without a wanted frame need not be decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from av.packet import Packet

# Key frames of these refer to nothing before them and forbid later frames to, always.
_ALWAYS_RESET = frozenset({"vp8", "vp9", "mjpeg"})
# Of these codecs only some key frames do: those made of NAL units of these types (IDR). The others, open groups of
# pictures and gradual refreshes, are marked as key frames too.
_IDR_TYPES = {"h264": frozenset({5}), "hevc": frozenset({19, 20})}
_SLICE_TYPES = {"h264": frozenset(range(1, 6)), "hevc": frozenset(range(32))}


@dataclass(frozen=True)
class DecodingGroup:
    """Consecutive packets and the consecutive frames that come of them and of nothing else."""

    first_packet: int
    first_pts: int
    last_pts: int


def resets_decoder(packet: Packet[Any], codec: str, extradata: bytes | None) -> bool:
    """Tell whether decoding may begin at this packet with the same result as if all before it had been decoded."""
    if not packet.is_keyframe or codec in _ALWAYS_RESET:
        return packet.is_keyframe
    return codec in _IDR_TYPES and _first_slice_type(bytes(packet), codec, extradata) in _IDR_TYPES[codec]


def split_groups(resets: Sequence[bool], pts: Sequence[int]) -> list[DecodingGroup]:
    """Split packets, given in file order, into groups whose times do not overlap, from the first reset on."""
    starts = [number for number, reset in enumerate(resets) if reset]
    groups: list[DecodingGroup] = []
    for start, end in pairwise([*starts, len(resets)]):
        group = DecodingGroup(start, min(pts[start:end]), max(pts[start:end]))
        if groups and group.first_pts <= groups[-1].last_pts:
            group = DecodingGroup(
                groups[-1].first_packet, groups[-1].first_pts, max(groups.pop().last_pts, group.last_pts)
            )
        groups.append(group)
    return groups


def _first_slice_type(data: bytes, codec: str, extradata: bytes | None) -> int | None:
    units = _prefixed_units(data, codec, extradata) if extradata and extradata[0] == 1 else _delimited_units(data)
    for header in units:
        kind = header & 0x1F if codec == "h264" else header >> 1 & 0x3F
        if kind in _SLICE_TYPES[codec]:
            return kind
    return None


def _prefixed_units(data: bytes, codec: str, extradata: bytes) -> Iterator[int]:
    """The first byte of each NAL unit, as MP4 and Matroska hold them: each behind its length."""
    length_size = (extradata[4 if codec == "h264" else 21] & 3) + 1
    position = 0
    while position + length_size < len(data):
        yield data[position + length_size]
        position += length_size + int.from_bytes(data[position : position + length_size])


def _delimited_units(data: bytes) -> Iterator[int]:
    """The first byte of each NAL unit, as transport and elementary streams hold them: each behind a start code."""
    position = data.find(b"\x00\x00\x01")
    while 0 <= position < len(data) - 3:
        yield data[position + 3]
        position = data.find(b"\x00\x00\x01", position + 3)
