"""The safetensors files of a checkpoint: what is in them, and any part of their bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from glm4v_core.weights import CheckpointError

#: The format's own limit.
_LONGEST_HEADER_BYTES = 100_000_000
_LENGTH = struct.Struct("<Q")
_CHUNK_BYTES = 2**20
_ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "BF16": 2,
    "F16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
}


class Shards(Protocol):
    """Files of one checkpoint, wherever they lie."""

    #: Where they come from, for people: a directory, or a hub id and its commit.
    origin: str

    def has(self, file: str) -> bool: ...

    def read(self, file: str) -> bytes:
        """A whole small file."""
        ...

    def stream(self, file: str, begin: int, end: int) -> Iterator[bytes]:
        """Bytes `begin` to `end` of a file: exactly so many, or a CheckpointError."""
        ...


class DirectoryShards:
    """A checkpoint in a directory of this machine."""

    def __init__(self, directory: Path) -> None:
        self.origin = str(directory.resolve())
        self._directory = directory

    def has(self, file: str) -> bool:
        return (self._directory / file).is_file()

    def read(self, file: str) -> bytes:
        return (self._directory / file).read_bytes()

    def stream(self, file: str, begin: int, end: int) -> Iterator[bytes]:
        path = self._directory / file
        if not path.is_file():
            raise CheckpointError(f"{self._directory} lacks {file}, which its index names")
        with path.open("rb") as shard:
            shard.seek(begin)
            while begin < end:
                data = shard.read(min(_CHUNK_BYTES, end - begin))
                if not data:
                    raise CheckpointError(f"{path} ends at byte {begin}, before its own header says: copy it again")
                begin += len(data)
                yield data


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor of a shard, and where its bytes lie."""

    name: str
    dtype: str  #: as safetensors writes it, such as BF16
    shape: tuple[int, ...]
    file: str
    begin: int  #: first byte in the file
    end: int

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.dtype]


def read_tensor_list(shards: Shards, file: str) -> list[StoredTensor]:
    """What a shard holds, from its header alone.

    Raises:
        CheckpointError: the file is not safetensors.
    """
    (length,) = _LENGTH.unpack(b"".join(shards.stream(file, 0, _LENGTH.size)))
    if length > _LONGEST_HEADER_BYTES:
        raise CheckpointError(
            f"{file} of {shards.origin} is not a safetensors file: its header would have {length} bytes"
        )
    data_begin = _LENGTH.size + length
    try:
        entries = json.loads(b"".join(shards.stream(file, _LENGTH.size, data_begin)))
        return [_tensor(name, entry, file, data_begin) for name, entry in entries.items() if name != "__metadata__"]
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} of {shards.origin} is not a safetensors file: {error}") from error


def encode_header(tensors: list[StoredTensor], about: Mapping[str, str]) -> bytes:
    """The start of a safetensors file that holds these tensors one after the other."""
    entries: dict[str, object] = {"__metadata__": dict(about)}
    offset = 0
    for tensor in tensors:
        size = tensor.end - tensor.begin
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _LENGTH.pack(len(text)) + text


def _tensor(name: str, entry: Mapping[str, list[int]], file: str, data_begin: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    tensor = StoredTensor(
        name=name,
        dtype=str(entry["dtype"]),
        shape=tuple(entry["shape"]),
        file=file,
        begin=data_begin + begin,
        end=data_begin + end,
    )
    if end - begin != math.prod(tensor.shape) * _ITEM_BYTES.get(tensor.dtype, 0):
        raise ValueError(f"{name} has {end - begin} bytes for {tensor.dtype} {tensor.shape}")
    return tensor
