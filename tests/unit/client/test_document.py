"""docs/client.md says everything, and what it shows runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import glm4v_client
from glm4v_client import EmbeddingClient, ItemHandle, JobHandle, RetryPolicy, VisualTokens, errors, records
from glm4v_client.artefact import ArtefactHeader
from glm4v_client.downloads import Download, DownloadSummary
from glm4v_client.errors import ClientError
from glm4v_client.options import EmbedOptions
from tests.conftest import REPOSITORY
from tests.fake_service import FakeService

DOCUMENT = (REPOSITORY / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)

#: What a user of the client is handed.
RECORDS: list[type[BaseModel]] = [
    EmbedOptions,
    records.Counts,
    records.Delivery,
    records.Embedding,
    records.Item,
    records.ItemError,
    records.ItemRequest,
    records.JobDetail,
    records.Queue,
    records.Upload,
    records.Webhook,
    records.Worker,
]
CLASSES = [EmbeddingClient, JobHandle, ItemHandle, VisualTokens, Download, DownloadSummary, RetryPolicy, ArtefactHeader]


def public_names(kind: type) -> set[str]:
    names = {*vars(kind), *getattr(kind, "__annotations__", {})}
    # A summary counts by itself.
    return {name for name in names if not name.startswith("_")} - {"count"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_record_is_said(record: type[BaseModel]):
    assert {name for name in record.model_fields if not re.search(rf"`{name}\b|\b{name}=", DOCUMENT)} == set()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_method_and_attribute_is_said(kind: type):
    unsaid = {name for name in public_names(kind) if not re.search(rf"`(\w+\.)?{name}\b", DOCUMENT)}
    if kind is ArtefactHeader:
        unsaid = {name for name in unsaid if name in inspect.signature(ArtefactHeader).parameters}
    assert unsaid == set()


@pytest.mark.parametrize("kind", [EmbeddingClient, JobHandle, ItemHandle, VisualTokens], ids=lambda kind: kind.__name__)
def test_every_argument_is_said(kind: type):
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name == "__init__" or not name.startswith("_"):
            arguments = set(inspect.signature(method).parameters) - {"self", "inner", "content"}
            assert {argument for argument in arguments if not re.search(rf"\b{argument}\b", DOCUMENT)} == set(), name


def test_the_tree_of_errors_is_the_same_everywhere():
    drawn = re.search(r"    ClientError\n.*?\n(?=\n)", errors.__doc__ or "", re.DOTALL)
    assert drawn is not None
    assert drawn[0] in DOCUMENT
    named = set(re.findall(r"^\W*(\w+)", drawn[0], re.MULTILINE))
    kinds = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, ClientError)}
    assert kinds == named
    assert kinds <= set(glm4v_client.__all__)


def test_what_is_shown_runs(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/dog.mp4").write_bytes(b"woof")
    names: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet.replace("http://localhost:8000", service.url), "docs/client.md", "exec"), names)
    names["client"].close()

    printed = capsys.readouterr().out
    assert "2 of 2\n" in printed
    assert "3000\n" in printed
    assert "1 of 2 items failed and 0 were cancelled (corrupt_media 1)\n" in printed
    assert "torch.Size([4, 8]) float32 (1, 4, 4) None\n" in printed
    assert "job_not_found 404 What to do.\n" in printed
    assert sorted(path.name for path in Path("tokens").glob("*.safetensors")) == [
        "00000000.safetensors",
        "00000001.safetensors",
    ]
