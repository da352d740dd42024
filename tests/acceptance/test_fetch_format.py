"""`glm4v fetch --format` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from glm4v_client import EmbeddingClient
from tests.fake_server import fake_service

GLM4V = Path(sys.executable).parent / "glm4v"
SOURCES = ["s3://media/cat.jpg", "s3://media/broken.jpg", "s3://media/dog.jpg"]


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_a_jobs_tokens_become_shards_and_what_has_none_is_told(tmp_path: Path, layout: str) -> None:
    with fake_service() as service, EmbeddingClient(service.url) as client:
        job = client.submit(SOURCES)
        job.wait()
        command = [GLM4V, "fetch", str(job.id), "--out", "shards", "--format", layout, "--url", service.url]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert result.returncode == 1, result.stderr
    assert "2 items" in result.stdout
    assert "1 without tokens: corrupt_media 1" in result.stdout
    (shard,) = (tmp_path / "shards").iterdir()
    if layout == "webdataset":
        with tarfile.open(shard) as tar:
            assert tar.getnames() == ["00000000.safetensors", "00000000.json", "00000002.safetensors", "00000002.json"]
    assert again.returncode == 2
    assert "has shards already" in again.stderr
