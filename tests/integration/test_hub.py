"""Downloading a model's tower, with the real hub client against a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glm4v_core import Glm4vVisionConfig
from tests.hub_server import HubServer
from tests.reference import random_tower

NAME = "some-lab/GLM-9V"
LOAD = """
import sys
from glm4v_core import GLM4VEmbeddingPipeline
from glm4v_core.weights import CheckpointError
try:
    pipeline = GLM4VEmbeddingPipeline.from_pretrained(sys.argv[1], *sys.argv[2:])
    print("loaded", pipeline.config.depth)
except CheckpointError as error:
    print(error)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sharded checkpoint whose tower is in the second of its three shards."""
    config = Glm4vVisionConfig(depth=1, hidden_size=32, num_heads=2, out_hidden_size=48, intermediate_size=64)
    visual = {f"model.visual.{name}": tensor for name, tensor in random_tower(config).state_dict().items()}
    shards = {
        "model-00001-of-00003.safetensors": {"model.language_model.norm.weight": torch.ones(4)},
        "model-00002-of-00003.safetensors": visual,
        "model-00003-of-00003.safetensors": {"lm_head.weight": torch.ones(4)},
    }
    folder = tmp_path / "model"
    folder.mkdir()
    for file, tensors in shards.items():
        save_file(tensors, folder / file)
    index = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"vision_config": config.to_dict()}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Glm4vImageProcessor"}))
    return folder


def load(hub_url: str, cache: Path, *arguments: str) -> str:
    """In a process of its own: the hub client reads its environment when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": hub_url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_only_the_shards_that_hold_the_tower_are_downloaded_and_only_once(model: Path, tmp_path: Path) -> None:
    with HubServer(NAME, model) as hub:
        assert load(hub.url, tmp_path / "cache", NAME) == "loaded 1"
        assert sorted(hub.downloaded) == [
            "config.json",
            "model-00002-of-00003.safetensors",
            "model.safetensors.index.json",
            "preprocessor_config.json",
        ]

        assert load(hub.url, tmp_path / "cache", NAME) == "loaded 1"
        assert len(hub.downloaded) == 4


def test_a_model_in_the_cache_is_loaded_without_the_hub(model: Path, tmp_path: Path) -> None:
    with HubServer(NAME, model) as hub:
        load(hub.url, tmp_path / "cache", NAME)

    assert load(hub.url, tmp_path / "cache", NAME) == "loaded 1"


def test_what_cannot_be_loaded_is_told_in_one_sentence(model: Path, tmp_path: Path) -> None:
    with HubServer(NAME, model) as hub:
        assert "has no model of that name" in load(hub.url, tmp_path / "cache", "some-lab/other")
        assert "not the form of a hub id" in load(hub.url, tmp_path / "cache", "no/such/directory")
    assert "cannot be reached" in load(hub.url, tmp_path / "other-cache", NAME)
