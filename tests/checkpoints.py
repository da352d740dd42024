"""A small checkpoint of a whole model, and whether another one has the same tower."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from glm4v_core import Glm4vVisionConfig
from glm4v_core.weights import read_visual_tensors
from tests.reference import random_tower

SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


SMALL = Glm4vVisionConfig(depth=2, hidden_size=64, num_heads=2, out_hidden_size=96, intermediate_size=128)


def write_checkpoint(folder: Path, config: Glm4vVisionConfig = SMALL) -> Path:
    """A sharded model whose tower lies in two of three shards, in two dtypes, among the language model's tensors."""
    visual = [
        (f"model.visual.{name}", tensor.bfloat16() if tensor.ndim > 1 else tensor)
        for name, tensor in random_tower(config).state_dict().items()
    ]
    half = len(visual) // 2
    shards = {
        SHARDS[0]: {"model.language_model.embed_tokens.weight": torch.ones(100, 1000)},
        SHARDS[1]: dict(visual[:half]) | {"model.language_model.norm.weight": torch.ones(100_000)},
        SHARDS[2]: dict(visual[half:]) | {"lm_head.weight": torch.ones(100_000)},
    }
    for file, tensors in shards.items():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file)
    index = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"model_type": "glm4v", "vision_config": config.to_dict()}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Glm4vImageProcessor"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def assert_same_tower(directory: Path, checkpoint: Path) -> None:
    found, wanted = read_visual_tensors(directory), read_visual_tensors(checkpoint)
    assert found.keys() == wanted.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in wanted.items()
    )
