from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from glm4v_core import Glm4vVisionConfig, Glm4vVisionModel
from glm4v_core.weights import (
    CheckpointError,
    load_tensors,
    read_visual_tensors,
    save_visual_tensors,
    visual_shards,
    weights_digest,
)

CONFIG = Glm4vVisionConfig(depth=1, hidden_size=32, num_heads=2, out_hidden_size=48, intermediate_size=64)
LANGUAGE = {"model.language_model.embed_tokens.weight": torch.zeros(4, 4), "lm_head.weight": torch.zeros(4, 4)}


def tower(seed: int = 0) -> Glm4vVisionModel:
    model = Glm4vVisionModel(CONFIG)
    model.init_weights(seed)
    return model


def tensors(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["model.visual.", "visual.", ""])
def test_the_tower_alone_is_read_from_one_file(tmp_path: Path, prefix: str) -> None:
    model = tower()
    others = LANGUAGE if prefix else {}
    save_file(tensors(model, prefix) | others, tmp_path / "model.safetensors")

    read = read_visual_tensors(tmp_path)

    assert read.keys() == model.state_dict().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())


def test_shards_without_the_tower_are_never_opened(tmp_path: Path) -> None:
    visual = tensors(tower(), "model.visual.")
    names = sorted(visual)
    shards = {
        "model-00002-of-00003.safetensors": {name: visual[name] for name in names[:5]} | LANGUAGE,
        "model-00003-of-00003.safetensors": {name: visual[name] for name in names[5:]},
    }
    index = dict.fromkeys(("model.language_model.norm.weight",), "model-00001-of-00003.safetensors")
    for file, content in shards.items():
        save_file(content, tmp_path / file)
        index |= dict.fromkeys(content, file)
    (tmp_path / "model-00001-of-00003.safetensors").write_text("not safetensors: reading this fails")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    assert visual_shards(index) == sorted(shards)
    assert len(read_visual_tensors(tmp_path)) == len(visual)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = {"model.visual.post_layernorm.weight": "model-00001-of-00001.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    with pytest.raises(CheckpointError, match=r"lacks model-00001-of-00001\.safetensors"):
        read_visual_tensors(tmp_path)


def test_a_directory_without_weights_or_without_a_tower_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_visual_tensors(tmp_path)
    save_file(LANGUAGE, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no tensor under model\.visual"):
        read_visual_tensors(tmp_path)


def test_missing_extra_and_misshaped_tensors_are_named_and_counted() -> None:
    model = tower()
    given = tensors(model)
    for name in ["merger.proj.weight", "blocks.0.norm1.weight", "downsample.bias", "post_layernorm.weight"]:
        del given[name]
    given["blocks.7.norm1.weight"] = torch.ones(32)
    given["patch_embed.proj.bias"] = torch.ones(31)

    with pytest.raises(CheckpointError) as caught:
        load_tensors(model, given)

    message = str(caught.value)
    assert "4 missing (blocks.0.norm1.weight, downsample.bias, merger.proj.weight and 1 more)" in message
    assert "1 unexpected (blocks.7.norm1.weight)" in message
    assert "patch_embed.proj.bias (31,) instead of (32,)" in message


def test_weights_are_loaded_in_the_dtype_asked_for() -> None:
    model = tower(seed=1)
    load_tensors(model, tensors(tower()), torch.bfloat16)

    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_digest_tells_weights_apart_and_outlives_a_checkpoint(tmp_path: Path) -> None:
    model, other = tower(), tower(seed=1)
    save_visual_tensors(model, tmp_path)
    loaded = tower(seed=2)
    load_tensors(loaded, read_visual_tensors(tmp_path))

    assert weights_digest(loaded) == weights_digest(model)
    assert len({weights_digest(model), weights_digest(other), weights_digest(model.bfloat16())}) == 3
