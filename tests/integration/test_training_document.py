"""What docs/training.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from glm4v_client import EmbeddingClient
from tests.artefacts import artefact_of
from tests.conftest import REPOSITORY
from tests.fake_server import fake_service

SNIPPETS = re.findall(
    r"^```python\n(.*?)^```", (REPOSITORY / "docs" / "training.md").read_text(), re.MULTILINE | re.DOTALL
)
SOURCES = [f"s3://media/{number}.jpg" for number in range(8)]


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create",
    # webdataset leaves its files to be closed by whoever collects the garbage.
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
)
def test_every_block_runs_and_what_is_read_is_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").mkdir()
    for number, source in enumerate(SOURCES):
        (tmp_path / "tokens" / f"{number:08}.safetensors").write_bytes(artefact_of(source))
    names: dict[str, Any] = {}
    with fake_service() as service, EmbeddingClient(service.url) as client:
        names["job"] = client.submit(SOURCES)
        names["job"].wait()
        for item in names["job"].items():
            place = tmp_path / "store" / item.record.embedding.object_key
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(artefact_of(item.source))
        shapes = []
        for snippet in SNIPPETS:
            exec(compile(snippet, "docs/training.md", "exec"), names)
            shapes.append(tuple(names["tokens"].shape))

    assert len(SNIPPETS) == 5
    assert shapes[0] == (16, 8)
    assert (len(names["dataset"]), names["dataset"][0]["embeddings"].shape) == (8, (4, 8))
    assert names["summary"].items == len(SOURCES)
    assert names["source"] == SOURCES[-1]
    assert names["row"]["source"] == SOURCES[-1]
    assert shapes[-1] == (4, 8)
