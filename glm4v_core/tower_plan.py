"""What a stand-alone checkpoint of a tower consists of, and where in a full one each of its bytes lies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from glm4v_core.shards import Shards, StoredTensor, encode_header, read_tensor_list
from glm4v_core.weights import INDEX_NAME, VISUAL_PREFIXES, WEIGHTS_NAME, CheckpointError, visual_name, visual_shards

#: One request; what a killed run loses of each connection at most.
_PART_BYTES = 32 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Bytes that are copied in one go."""

    file: str
    begin: int
    end: int
    #: Where they go in the new file.
    target: int


@dataclass(frozen=True, kw_only=True)
class TowerPlan:
    """A new file: its tensors in order, all of them the tower's."""

    origin: str
    tensors: list[StoredTensor]

    @cached_property
    def header(self) -> bytes:
        return encode_header(self.tensors, {"format": "pt", "origin": self.origin})

    @property
    def total_bytes(self) -> int:
        return len(self.header) + sum(tensor.end - tensor.begin for tensor in self.tensors)

    @cached_property
    def digest(self) -> str:
        """Equal for the same tensors of the same commit."""
        places = [(tensor.name, tensor.file, tensor.begin) for tensor in self.tensors]
        return hashlib.sha256(self.header + json.dumps(places).encode()).hexdigest()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By the tower's own names."""
        return {visual_name(tensor.name) or tensor.name: tensor.shape for tensor in self.tensors}

    def parts(self) -> list[Part]:
        """All bytes behind the header. Neighbours in both files are copied together."""
        parts: list[Part] = []
        target = len(self.header)
        for tensor in self.tensors:
            begin = tensor.begin
            while begin < tensor.end:
                last = parts[-1] if parts else None
                if last and (last.file, last.end) == (tensor.file, begin) and last.end - last.begin < _PART_BYTES:
                    parts.pop()
                else:
                    last = Part(file=tensor.file, begin=begin, end=begin, target=target)
                end = min(tensor.end, last.begin + _PART_BYTES)
                parts.append(Part(file=last.file, begin=last.begin, end=end, target=last.target))
                target += end - begin
                begin = end
        return parts


def plan_tower(shards: Shards) -> TowerPlan:
    """Read the headers of the shards that hold the tower.

    Raises:
        CheckpointError: there are no safetensors files, or no tower in them.
    """
    if shards.has(INDEX_NAME):
        files = visual_shards(_weight_map(shards))
    elif shards.has(WEIGHTS_NAME):
        files = [WEIGHTS_NAME]
    else:
        raise CheckpointError(f"{shards.origin} has neither {INDEX_NAME} nor {WEIGHTS_NAME}")
    tensors = [tensor for file in files for tensor in read_tensor_list(shards, file) if visual_name(tensor.name)]
    if not tensors:
        raise CheckpointError(f"no tensor under {' or '.join(VISUAL_PREFIXES)} in {shards.origin}")
    # Wide numbers first keep every tensor on a multiple of its width; else the order in which they are read.
    tensors.sort(key=lambda tensor: (-tensor.item_bytes, tensor.file, tensor.begin))
    return TowerPlan(origin=shards.origin, tensors=tensors)


def _weight_map(shards: Shards) -> dict[str, str]:
    try:
        return dict(json.loads(shards.read(INDEX_NAME))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{INDEX_NAME} of {shards.origin} is not an index of tensors: {error!r}") from error
