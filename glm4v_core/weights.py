"""Reading the vision tower, and nothing else, out of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

INDEX_NAME = "model.safetensors.index.json"
WEIGHTS_NAME = "model.safetensors"
#: Where published checkpoints keep the tower: transformers 5, transformers 4.
VISUAL_PREFIXES = ("model.visual.", "visual.")

# How many names an error lists before it only counts.
_NAMED_IN_ERRORS = 3


class CheckpointError(ValueError):
    """A checkpoint that is not the tower it should be; the message names the file or the first few tensors."""


def visual_name(name: str) -> str | None:
    """The tower's own name of a checkpoint's tensor, or None where the tensor is not the tower's."""
    for prefix in VISUAL_PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return None


def visual_shards(index: Mapping[str, str]) -> list[str]:
    """The files of a sharded checkpoint that hold the tower.

    Args:
        index: tensor name -> file name, the `weight_map` of `model.safetensors.index.json`.

    Raises:
        CheckpointError: no tensor is under `model.visual.` or `visual.`.
    """
    shards = sorted({file for name, file in index.items() if visual_name(name) is not None})
    if not shards:
        raise CheckpointError(
            f"no tensor under {' or '.join(VISUAL_PREFIXES)} among the {len(index)} of the checkpoint's index"
        )
    return shards


def read_visual_tensors(directory: str | Path) -> dict[str, Tensor]:
    """Read the tower's tensors, named as `Glm4vVisionModel` names them, from one file or a sharded index.

    Only tensors under `model.visual.` or `visual.` are read. A file with neither prefix is taken to be the tower alone.

    Raises:
        CheckpointError: the directory holds no weights, or none of them is the tower's.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(Path(directory)):
        with safe_open(file, framework="pt") as weights:
            names = {name: visual_name(name) for name in list(weights.keys())}
            if "patch_embed.proj.weight" in names:
                names = {name: name for name in names}
            tensors |= {own: weights.get_tensor(name) for name, own in names.items() if own is not None}
    if not tensors:
        raise CheckpointError(f"no tensor under {' or '.join(VISUAL_PREFIXES)} in {directory}")
    return tensors


def weight_files(directory: Path) -> list[Path]:
    """The files of a checkpoint that hold the tower, all of them there.

    Raises:
        CheckpointError: some are missing, or it is unclear which they are.
    """
    index = directory / INDEX_NAME
    if index.is_file():
        files = [directory / shard for shard in visual_shards(json.loads(index.read_text())["weight_map"])]
    elif (directory / WEIGHTS_NAME).is_file():
        files = [directory / WEIGHTS_NAME]
    else:
        files = sorted(directory.glob("*.safetensors"))
    if len(files) != 1 and not index.is_file():
        found = f"{len(files)} safetensors files and no {INDEX_NAME}" if files else "no safetensors file"
        raise CheckpointError(f"{found} in {directory}: expected {WEIGHTS_NAME} or a sharded checkpoint with its index")
    if absent := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{directory} lacks {', '.join(absent[:_NAMED_IN_ERRORS])}, which its index names")
    return files


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Give a model its tensors, without a copy where the dtype is already right.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; the message names the first few.
    """
    check_shapes(model, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    model.load_state_dict({name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()}, assign=True)


def check_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare a model with the tensors that a checkpoint has for it, by name and shape alone.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; the message names the first few.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [
        _listing("missing", wanted.keys() - shapes.keys()),
        _listing("unexpected", shapes.keys() - wanted.keys()),
        _listing(
            "of another shape",
            (
                f"{name} {shapes[name]} instead of {shape}"
                for name, shape in wanted.items()
                if name in shapes and shapes[name] != shape
            ),
        ),
    ]
    if any(problems):
        raise CheckpointError(f"the checkpoint does not fit the configuration: {'; '.join(filter(None, problems))}")


def save_visual_tensors(model: nn.Module, directory: Path) -> None:
    """Write the tower as a checkpoint that `read_visual_tensors` and Hugging Face read."""
    tensors = {
        VISUAL_PREFIXES[0] + name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(tensors, directory / WEIGHTS_NAME, metadata={"format": "pt"})


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over every tensor's name, dtype, shape and bytes: equal for equal weights, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.detach().cpu().contiguous().view(torch.uint8).numpy()).cast("B"))
    return digest.hexdigest()


def _listing(what: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    if not ordered:
        return ""
    shown = ", ".join(ordered[:_NAMED_IN_ERRORS])
    more = f" and {len(ordered) - _NAMED_IN_ERRORS} more" if len(ordered) > _NAMED_IN_ERRORS else ""
    return f"{len(ordered)} {what} ({shown}{more})"
