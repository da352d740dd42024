"""The snippets of docs/consumers.md, run as they stand but for the names of the checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.language_models import clip, language_model, picture, store

DOCUMENT = (REPOSITORY / "docs" / "consumers.md").read_text()
SNIPPETS = {
    f"{heading.strip()}, {number}": snippet
    for heading, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
}
#: A small model of the class that each checkpoint's section is about.
CHECKPOINTS = {
    "zai-org/GLM-4.1V-9B-Thinking": "Glm4v",
    "zai-org/GLM-4.5V": "Glm4vMoe",
    "glm46v": "Glm46V",
    "zai-org/GLM-5.3-Flash": "Glm5Next",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the artefacts lie that the snippets read."""
    pipeline = language_model("Glm4v", tmp_path).pipeline
    store(pipeline, picture(130, 210), tmp_path / "cat.safetensors")
    store(pipeline, picture(60, 60), tmp_path / "dog.safetensors")
    store(pipeline, clip(40, 70, 90, fps=12.5), tmp_path / "clip.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_runs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[name]
    for checkpoint, language in CHECKPOINTS.items():
        if f'"{checkpoint}"' in snippet:
            language_model(language, folder)
            snippet = snippet.replace(f'"{checkpoint}"', repr(str(folder / language)))
    names: dict[str, Any] = {}

    exec(compile(snippet, name, "exec"), names)

    assert ("print(" in snippet) == bool(capsys.readouterr().out.strip())


def test_the_document_has_a_snippet_for_each_reader() -> None:
    assert len(SNIPPETS) >= 7
    assert all(checkpoint in DOCUMENT for checkpoint in CHECKPOINTS)
