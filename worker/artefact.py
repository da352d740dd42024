"""Writes an artefact while its rows are still being made; its format is told in glm4v_client.artefact."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Buffer

from glm4v_client.artefact import DTYPE_NAMES, HEADER_LENGTH, ArtefactHeader, format_version


class Output(Protocol):
    """Where an artefact goes: a file, or a store's writer."""

    def write(self, data: Buffer, /) -> object: ...


class ArtefactWriter:
    """Writes the header at once and the rows as they come; the same content gives the same bytes.

    Raises:
        ValueError: from `finish` or `write`, when the rows are not as many as the header said.
    """

    def __init__(self, output: Output, header: ArtefactHeader) -> None:
        self._output = output
        self._missing_bytes = header.embeddings_bytes
        self._scales_bytes = header.scales_bytes
        #: Four bytes a token: kept until the last row, behind which they belong.
        self._scales = bytearray()
        output.write(_encode_header(header))

    def write(self, rows: Buffer, scales: Buffer = b"") -> None:
        """Append rows: contiguous little-endian numbers of the header's dtype, and their scales if it has any."""
        count = memoryview(rows).nbytes
        if count > self._missing_bytes:
            raise ValueError(f"{count} bytes of rows where {self._missing_bytes} were left")
        self._output.write(rows)
        self._missing_bytes -= count
        self._scales += memoryview(scales).cast("B")

    def finish(self) -> None:
        if self._missing_bytes:
            raise ValueError(f"{self._missing_bytes} bytes of rows are missing")
        if len(self._scales) != self._scales_bytes:
            raise ValueError(f"{len(self._scales)} bytes of scales instead of {self._scales_bytes}")
        if self._scales:
            self._output.write(self._scales)


def new_artefact_key(fingerprint: str, content_sha256: str) -> str:
    """A key that nothing else will ever write to.

    Two workers may compute the same content at the same time, and a frozen one may wake and finish its upload hours
    later. Their tokens can differ in the last bit, with what shared their batch. With a key of its own each upload
    leaves the others' bytes alone, and the embedding row says which one counts.
    """
    return f"embeddings/{fingerprint}/{content_sha256[:2]}/{content_sha256}.{uuid.uuid4().hex[:16]}.safetensors"


def _encode_header(header: ArtefactHeader) -> bytes:
    """The header and the small tensors: everything that comes before the first row.

    Raises:
        ValueError: a scaled dtype in rows whose bytes are no multiple of four.
    """
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
    entries["embeddings"] = _entry(DTYPE_NAMES[header.dtype], shape, offset, header.embeddings_bytes)
    if header.scales_bytes:
        end = offset + header.embeddings_bytes
        if end % 4:
            raise ValueError(f"{header.dtype} rows of {header.dim} numbers: their scales would not lie on four bytes")
        entries["scales"] = _entry("F32", shape[:1], end, header.scales_bytes)
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Spaces up to a multiple of eight, so that a reader may map the tensors in place.
    text += b" " * (-len(text) % 8)
    return HEADER_LENGTH.pack(len(text)) + text + b"".join(tensor.data for tensor in tensors)


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
        "format_version": format_version(header.dtype),
        "kind": header.kind.value,
        "model": header.model,
        "fingerprint": header.fingerprint,
        "content_sha256": header.content_sha256,
    }


def _entry(dtype: str, shape: Sequence[int], offset: int, size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
