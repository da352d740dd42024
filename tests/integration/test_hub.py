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


def run(program: str, hub_url: str, home: Path, *arguments: str) -> str:
    """In a process of its own: the hub client reads its environment when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_only_the_tower_is_downloaded_and_only_once(model: Path, tmp_path: Path) -> None:
    with HubServer(NAME, model) as hub:
        assert run(LOAD, hub.url, tmp_path / "home", NAME) == "loaded 1"
        assert set(hub.downloaded) == {
            "config.json",
            "model-00002-of-00003.safetensors",
            "model.safetensors.index.json",
            "preprocessor_config.json",
        }
        assert all(request.range for request in hub.asked if request.file.endswith(".safetensors"))
        requests = len(hub.asked)

        assert run(LOAD, hub.url, tmp_path / "home", NAME) == "loaded 1"
        assert len(hub.asked) == requests

    assert run(LOAD, hub.url, tmp_path / "home", NAME) == "loaded 1"


def test_a_model_that_is_whole_in_the_hub_clients_cache_is_read_from_there(model: Path, tmp_path: Path) -> None:
    download = "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1])"
    with HubServer(NAME, model) as hub:
        run(download, hub.url, tmp_path / "home", NAME)
        requests = len(hub.asked)

        assert run(LOAD, hub.url, tmp_path / "home", NAME) == "loaded 1"
        assert len(hub.asked) == requests


def test_what_cannot_be_loaded_is_told_in_one_sentence(model: Path, tmp_path: Path) -> None:
    with HubServer(NAME, model) as hub:
        assert "has no model of that name" in run(LOAD, hub.url, tmp_path / "home", "some-lab/other")
        assert "not the form of a hub id" in run(LOAD, hub.url, tmp_path / "home", "no/such/directory")
    assert "cannot be reached" in run(LOAD, hub.url, tmp_path / "other-home", NAME)
