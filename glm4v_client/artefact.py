"""The file that holds one item's tokens: a safetensors file, whole without the database.

    embeddings     (tokens, dim)   bfloat16, float16 or float32
    grid_thw       (1, 3)          int64, patches: temporal, vertical, horizontal
    timestamps     (t,)            float64, seconds; videos only
    frame_indices  (frames,)       int64; videos only

The small tensors come first in the file, so that one short read from its start shows what is in it, and every tensor
lies on a multiple of eight bytes whatever the width of a token. The rows of `embeddings` come last.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from glm4v_client.states import MediaKind

#: Raised when a reader of the present files would misread the new ones. Part of every fingerprint.
FORMAT_VERSION = "1"

#: A larger header than this is not one of ours; the format itself allows 100 MB.
LONGEST_HEADER_BYTES = 64 * 2**20

HEADER_LENGTH = struct.Struct("<Q")
DTYPE_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtefactHeader:
    """What an artefact says about itself."""

    kind: MediaKind
    model: str
    fingerprint: str
    content_sha256: str
    dtype: str  #: bfloat16, float16 or float32
    num_tokens: int
    dim: int
    grid_thw: tuple[int, int, int]
    timestamps: tuple[float, ...] | None = None
    frame_indices: tuple[int, ...] | None = None

    @property
    def embeddings_bytes(self) -> int:
        return self.num_tokens * self.dim * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefact:
    """An artefact read back; `embeddings` are rows of little-endian numbers, (num_tokens, dim) of header.dtype."""

    header: ArtefactHeader
    embeddings: bytes


def read_artefact(file: BinaryIO) -> Artefact:
    """Read a whole artefact.

    Raises:
        ValueError: the file is cut short or not an artefact.
    """
    header = read_artefact_header(file)
    embeddings = file.read()
    if len(embeddings) != header.embeddings_bytes:
        raise ValueError(f"the artefact holds {len(embeddings)} bytes of rows instead of {header.embeddings_bytes}")
    return Artefact(header=header, embeddings=embeddings)


def read_artefact_header(file: BinaryIO) -> ArtefactHeader:
    """Read the start of an artefact and leave `file` at the first row.

    Raises:
        ValueError: the file is cut short, not an artefact, or of another format version.
    """
    (length,) = HEADER_LENGTH.unpack(_read_exactly(file, HEADER_LENGTH.size))
    if length > LONGEST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes: this is not an artefact")
    entries = json.loads(_read_exactly(file, length))
    about = entries.get("__metadata__", {})
    if about.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format version {about.get('format_version')!r} instead of {FORMAT_VERSION!r}")
    return _decode_header(entries, about, _read_exactly(file, entries["embeddings"]["data_offsets"][0]))


def _decode_header(entries: Mapping[str, Any], about: Mapping[str, str], small: bytes) -> ArtefactHeader:
    num_tokens, dim = entries["embeddings"]["shape"]
    frames, height, width = _numbers("q", entries["grid_thw"], small)
    return ArtefactHeader(
        kind=MediaKind(about["kind"]),
        model=about["model"],
        fingerprint=about["fingerprint"],
        content_sha256=about["content_sha256"],
        dtype={short: name for name, short in DTYPE_NAMES.items()}[entries["embeddings"]["dtype"]],
        num_tokens=num_tokens,
        dim=dim,
        grid_thw=(frames, height, width),
        timestamps=_numbers("d", entries["timestamps"], small) if "timestamps" in entries else None,
        frame_indices=_numbers("q", entries["frame_indices"], small) if "frame_indices" in entries else None,
    )


def _numbers(code: str, entry: Mapping[str, Any], data: bytes) -> tuple[Any, ...]:
    begin, end = entry["data_offsets"]
    return struct.unpack(f"<{(end - begin) // 8}{code}", data[begin:end])


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ValueError(f"the artefact ends after {len(data)} of {count} bytes")
    return data
