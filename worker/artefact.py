"""The file that holds one item's tokens: a safetensors file, whole without the database.

    embeddings     (tokens, dim)   bfloat16, float16 or float32
    grid_thw       (1, 3)          int64, patches: temporal, vertical, horizontal
    timestamps     (t,)            float64, seconds; videos only
    frame_indices  (frames,)       int64; videos only

The small tensors come first in the file, so that one short read from its start shows what is in it, and every tensor
lies on a multiple of eight bytes whatever the width of a token. The rows of `embeddings` are appended as they come.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from typing_extensions import Buffer

from worker.records import MediaKind

#: Raised when a reader of the present files would misread the new ones. Part of every fingerprint.
FORMAT_VERSION = "1"

#: A larger header than this is not one of ours; the format itself allows 100 MB.
LONGEST_HEADER_BYTES = 64 * 2**20

_HEADER_LENGTH = struct.Struct("<Q")
_DTYPE_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class Output(Protocol):
    """Where an artefact goes: a file, or a store's writer."""

    def write(self, data: Buffer, /) -> object: ...


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


class ArtefactWriter:
    """Writes the header at once and the rows as they come; the same content gives the same bytes.

    Raises:
        ValueError: from `finish` or `write`, when the rows are not as many as the header said.
    """

    def __init__(self, output: Output, header: ArtefactHeader) -> None:
        self._output = output
        self._missing_bytes = header.embeddings_bytes
        output.write(_encode_header(header))

    def write(self, rows: Buffer) -> None:
        """Append rows: contiguous little-endian numbers of the header's dtype."""
        count = memoryview(rows).nbytes
        if count > self._missing_bytes:
            raise ValueError(f"{count} bytes of rows where {self._missing_bytes} were left")
        self._output.write(rows)
        self._missing_bytes -= count

    def finish(self) -> None:
        if self._missing_bytes:
            raise ValueError(f"{self._missing_bytes} bytes of rows are missing")


def new_artefact_key(fingerprint: str, content_sha256: str) -> str:
    """A key that nothing else will ever write to.

    Two workers may compute the same content at the same time, and a frozen one may wake and finish its upload hours
    later. Their tokens can differ in the last bit, with what shared their batch. With a key of its own each upload
    leaves the others' bytes alone, and the embedding row says which one counts.
    """
    return f"embeddings/{fingerprint}/{content_sha256[:2]}/{content_sha256}.{uuid.uuid4().hex[:16]}.safetensors"


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
    (length,) = _HEADER_LENGTH.unpack(_read_exactly(file, _HEADER_LENGTH.size))
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
        dtype={short: name for name, short in _DTYPE_NAMES.items()}[entries["embeddings"]["dtype"]],
        num_tokens=num_tokens,
        dim=dim,
        grid_thw=(frames, height, width),
        timestamps=_numbers("d", entries["timestamps"], small) if "timestamps" in entries else None,
        frame_indices=_numbers("q", entries["frame_indices"], small) if "frame_indices" in entries else None,
    )


def _encode_header(header: ArtefactHeader) -> bytes:
    """The header and the small tensors: everything that comes before the first row."""
    tensors = [_Small("grid_thw", "I64", (1, 3), struct.pack("<3q", *header.grid_thw))]
    if header.timestamps is not None:
        tensors.append(_small("timestamps", "F64", "d", header.timestamps))
    if header.frame_indices is not None:
        tensors.append(_small("frame_indices", "I64", "q", header.frame_indices))
    entries: dict[str, object] = {"__metadata__": _metadata(header)}
    offset = 0
    for tensor in tensors:
        entries[tensor.name] = _entry(tensor.dtype, tensor.shape, offset, len(tensor.data))
        offset += len(tensor.data)
    shape = (header.num_tokens, header.dim)
    entries["embeddings"] = _entry(_DTYPE_NAMES[header.dtype], shape, offset, header.embeddings_bytes)
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Spaces up to a multiple of eight, so that a reader may map the tensors in place.
    text += b" " * (-len(text) % 8)
    return _HEADER_LENGTH.pack(len(text)) + text + b"".join(tensor.data for tensor in tensors)


@dataclass(frozen=True, slots=True)
class _Small:
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def _small(name: str, dtype: str, code: str, values: Sequence[float]) -> _Small:
    return _Small(name, dtype, (len(values),), struct.pack(f"<{len(values)}{code}", *values))


def _metadata(header: ArtefactHeader) -> dict[str, str]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": header.kind.value,
        "model": header.model,
        "fingerprint": header.fingerprint,
        "content_sha256": header.content_sha256,
    }


def _entry(dtype: str, shape: Sequence[int], offset: int, size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}


def _numbers(code: str, entry: Mapping[str, Any], data: bytes) -> tuple[Any, ...]:
    begin, end = entry["data_offsets"]
    return struct.unpack(f"<{(end - begin) // 8}{code}", data[begin:end])


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ValueError(f"the artefact ends after {len(data)} of {count} bytes")
    return data
