"""`glm4v show` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from glm4v_client import EmbeddingClient
from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from tests.fake_server import fake_service
from worker.artefact import ArtefactWriter

GLM4V = Path(sys.executable).parent / "glm4v"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The artefact of a clip, at half its size."""
    from glm4v_core.quantization import quantize_rows

    rows, scales = quantize_rows(torch.randn(3 * 4 * 6, 16), "float8_e4m3")
    header = ArtefactHeader(
        kind=MediaKind.VIDEO,
        model="random:tiny",
        fingerprint="f" * 64,
        content_sha256="c" * 64,
        dtype="float8_e4m3",
        num_tokens=len(rows),
        dim=16,
        grid_thw=(3, 8, 12),
        timestamps=(0.0, 1.0, 2.0),
        frame_indices=(0, 12, 24, 36, 48, 60),
    )
    path = tmp_path / "clip.safetensors"
    with path.open("wb") as file:
        writer = ArtefactWriter(file, header)
        writer.write(rows.view(torch.uint8).numpy(), scales.numpy())
        writer.finish()
    return path


def show(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [GLM4V, "show", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_an_artefact_is_drawn_into_a_file_that_is_named(clip: Path, tmp_path: Path) -> None:
    result = show(clip, folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, "clip.png\n"), result.stderr
    with Image.open(tmp_path / "clip.png") as picture:
        assert picture.width > 400

    assert show(clip, "--out", tmp_path / "other.png", folder=tmp_path).stdout.strip().endswith("other.png")
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "clip.png").read_bytes()


def test_an_item_is_fetched_from_its_service_and_drawn(tmp_path: Path) -> None:
    with fake_service() as service, EmbeddingClient(service.url) as client:
        job = client.submit(["s3://media/cat.jpg"])
        job.wait()
        (item,) = job.items()
        result = show(str(item.id), "--url", service.url, folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"item-{item.id}.png\n"), result.stderr
    assert (tmp_path / f"item-{item.id}.png").stat().st_size > 1000


def test_what_cannot_be_shown_is_told_in_one_sentence(clip: Path, tmp_path: Path) -> None:
    cases = {"nothing.safetensors": "there is no file", "4711": "GLM4V_URL", __file__: "not an artefact"}
    for target, said in cases.items():
        result = show(target, "--url", "http://127.0.0.1:9", folder=tmp_path)
        assert result.returncode == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr
