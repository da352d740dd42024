"""The file that holds one item's tokens: a safetensors file, whole without the database.

    embeddings     (tokens, dim)   bfloat16, float16 or float32; float8_e4m3 or int8 with scales
    grid_thw       (1, 3)          int64, patches: temporal, vertical, horizontal
    timestamps     (t,)            float64, seconds; videos only
    frame_indices  (frames,)       int64; videos only
    scales         (tokens,)       float32, what each row is multiplied by; float8_e4m3 and int8 only

The small tensors come first in the file, so that one short read from its start shows what is in it, and every tensor
lies on a multiple of eight bytes whatever the width of a token. The rows of `embeddings` come last; only their scales,
which are known when they are, come behind them.
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
#: Of files with scales: a reader that knows none would take their rows for the tokens.
SCALED_FORMAT_VERSION = "2"

#: A larger header than this is not one of ours; the format itself allows 100 MB.
LONGEST_HEADER_BYTES = 64 * 2**20

HEADER_LENGTH = struct.Struct("<Q")
DTYPE_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float8_e4m3": "F8_E4M3", "int8": "I8"}
ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3": 1, "int8": 1}
#: Stored with one float32 for each token, by which its row is multiplied.
SCALED_DTYPES = frozenset({"float8_e4m3", "int8"})
_SCALE_BYTES = 4


def format_version(dtype: str) -> str:
    """The format version of files whose rows are of this dtype."""
    return SCALED_FORMAT_VERSION if dtype in SCALED_DTYPES else FORMAT_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtefactHeader:
    """What an artefact says about itself."""

    kind: MediaKind
    model: str
    fingerprint: str
    content_sha256: str
    dtype: str  #: of the rows: bfloat16, float16, float32, float8_e4m3 or int8
    num_tokens: int
    dim: int
    grid_thw: tuple[int, int, int]
    timestamps: tuple[float, ...] | None = None
    frame_indices: tuple[int, ...] | None = None

    @property
    def embeddings_bytes(self) -> int:
        return self.num_tokens * self.dim * ITEM_BYTES[self.dtype]

    @property
    def scales_bytes(self) -> int:
        return self.num_tokens * _SCALE_BYTES if self.dtype in SCALED_DTYPES else 0

    @property
    def restored_dtype(self) -> str:
        """Of the tokens once their scales are taken in: bfloat16, float16 or float32."""
        return "bfloat16" if self.dtype in SCALED_DTYPES else self.dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefact:
    """An artefact read back; `embeddings` are rows of little-endian numbers, (num_tokens, dim) of header.dtype.

    glm4v_client.restoring makes arrays of it, whatever its dtype.
    """

    header: ArtefactHeader
    embeddings: bytes | memoryview
    #: Little-endian float32, (num_tokens,); empty where the dtype needs none.
    scales: bytes | memoryview = b""


def read_artefact(file: BinaryIO) -> Artefact:
    """Read a whole artefact.

    Raises:
        ValueError: the file is cut short or not an artefact.
    """
    header = read_artefact_header(file)
    return split_artefact(header, memoryview(file.read()))


def split_artefact(header: ArtefactHeader, content: memoryview) -> Artefact:
    """An artefact from its header and all bytes behind it, without a copy.

    Raises:
        ValueError: they are too few or too many.
    """
    wanted = header.embeddings_bytes + header.scales_bytes
    if len(content) != wanted:
        raise ValueError(f"the artefact holds {len(content)} bytes of rows instead of {wanted}")
    rows, scales = content[: header.embeddings_bytes], content[header.embeddings_bytes :]
    return Artefact(header=header, embeddings=rows, scales=scales)


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
    if about.get("format_version") not in (FORMAT_VERSION, SCALED_FORMAT_VERSION):
        raise ValueError(
            f"format version {about.get('format_version')!r} instead of {FORMAT_VERSION!r} or {SCALED_FORMAT_VERSION!r}"
        )
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
