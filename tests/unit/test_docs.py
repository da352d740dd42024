"""What the documents must not forget."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.conftest import REPOSITORY
from worker.metrics import Metrics
from worker.settings import Settings, variable

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_every_setting_is_documented_and_no_other() -> None:
    known = {variable(field) for field in Settings.model_fields}

    assert set(re.findall(r"^\| `(GLM4V_[A-Z0-9_]+)`", OPERATIONS, re.MULTILINE)) == known
    assert set(re.findall(r"GLM4V_[A-Z0-9_]+", OPERATIONS)) <= known


def test_every_metric_of_the_worker_is_documented() -> None:
    page = generate_latest(Metrics().registry).decode()
    names = {name for name in re.findall(r"^# TYPE (\w+)", page, re.MULTILINE) if not name.endswith("_created")}

    assert {name for name in names if f"`{name}`" not in OPERATIONS} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []
