from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm4v_core import tower_plan
from glm4v_core.tower_plan import TowerPlan, plan_tower

DTYPES = [torch.float32, torch.bfloat16, torch.uint8]


class MemoryShards:
    """Files in memory."""

    origin = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def has(self, file: str) -> bool:
        return file in self._files

    def read(self, file: str) -> bytes:
        return self._files[file]

    def stream(self, file: str, begin: int, end: int) -> Iterator[bytes]:
        yield self._files[file][begin:end]


def assembled(plan: TowerPlan, shards: MemoryShards) -> bytes:
    """The new file, made part by part in whatever order."""
    file = io.BytesIO(plan.header)
    for part in reversed(plan.parts()):
        file.seek(part.target)
        file.write(b"".join(shards.stream(part.file, part.begin, part.end)))
    return file.getvalue()


tensors = st.lists(
    st.tuples(st.booleans(), st.sampled_from(range(3)), st.sampled_from(DTYPES), st.integers(1, 300)),
    min_size=1,
    max_size=12,
)


@given(specs=tensors, part_bytes=st.sampled_from([1, 7, 64, 1000, 10**6]))
def test_whatever_lies_where_the_parts_make_a_file_of_the_towers_tensors(specs: list, part_bytes: int) -> None:
    shards: dict[str, dict[str, torch.Tensor]] = {"model-0.safetensors": {"model.visual.first": torch.ones(3)}}
    for number, (is_visual, shard, dtype, size) in enumerate(specs):
        name = f"{'model.visual' if is_visual else 'model.language_model'}.{number}"
        shards.setdefault(f"model-{shard}.safetensors", {})[name] = torch.arange(size).to(dtype)
    index = {name: file for file, content in shards.items() for name in content}
    files = {file: safetensors.torch.save(content) for file, content in shards.items()}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    memory = MemoryShards(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower_plan, "_PART_BYTES", part_bytes)
        plan = plan_tower(memory)
        assert all(0 < part.end - part.begin <= part_bytes for part in plan.parts())
        made = assembled(plan, memory)

    assert len(made) == plan.total_bytes
    read = safetensors.torch.load(made)
    wanted = {name: tensor for content in shards.values() for name, tensor in content.items() if ".visual." in name}
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in wanted.items())


def test_neighbours_are_asked_for_together() -> None:
    content = {f"model.visual.{number}": torch.ones(100) for number in range(50)}
    plan = plan_tower(MemoryShards({"model.safetensors": safetensors.torch.save(content)}))

    (part,) = plan.parts()
    assert part.end - part.begin == 50 * 400


def test_the_same_tensors_of_another_commit_are_another_plan() -> None:
    files = {"model.safetensors": safetensors.torch.save({"model.visual.a": torch.ones(2)})}
    first, second = MemoryShards(files), MemoryShards(files)
    second.origin = "lab/model@other"
    assert plan_tower(first).digest != plan_tower(second).digest
