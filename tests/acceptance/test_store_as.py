"""Lighter artefacts, from the command line to the reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from glm4v_client import VisualTokens

GLM4V = Path(sys.executable).parent / "glm4v"


def test_a_picture_is_stored_at_half_its_size_and_comes_back_nearly_the_same(tmp_path: Path) -> None:
    Image.radial_gradient("L").convert("RGB").resize((112, 112)).save(tmp_path / "a.png")

    def embed(*options: str) -> VisualTokens:
        before = set(tmp_path.rglob("*.safetensors"))
        command = [GLM4V, "embed", "--device", "cpu", "--out", "out", "a.png", *options]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
        (path,) = set(tmp_path.rglob("*.safetensors")) - before
        return VisualTokens(path.read_bytes())

    whole = embed()
    for dtype in ("float8_e4m3", "int8"):
        light = embed("--store-as", dtype)
        assert (light.dtype, light.to_torch().dtype) == (dtype, torch.bfloat16)
        assert light.header.fingerprint != whole.header.fingerprint
        assert light.header.embeddings_bytes == whole.header.embeddings_bytes // 2
        error = (light.to_torch().float() - whole.to_torch().float()).norm() / whole.to_torch().float().norm()
        assert error < 0.04


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [GLM4V, "embed", "--store-as", "int4", "a.png"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert "int4" in result.stderr
