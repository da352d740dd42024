"""docs/api.md says every route, field and code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from worker.errors import EmbedError, Interrupted, InvalidSettings, PermanentError, TransientError

DOCUMENT = (REPOSITORY / "docs" / "api.md").read_text()
OPENAPI = json.loads((REPOSITORY / "docs" / "openapi.json").read_text())

#: Branches of the tree, and what ends a process before it serves anybody.
_NEVER_SHOWN = {EmbedError, TransientError, PermanentError, InvalidSettings}


def kinds(kind: type[EmbedError]) -> Iterator[type[EmbedError]]:
    yield kind
    for below in kind.__subclasses__():
        if below is not Interrupted:
            yield from kinds(below)


def test_every_route_is_documented_and_no_other() -> None:
    described = {f"{method.upper()} {path}" for path, methods in OPENAPI["paths"].items() for method in methods}
    told = {
        route.partition("?")[0] for route in re.findall(r"^\| `((?:GET|POST|DELETE) [^`]+)`", DOCUMENT, re.MULTILINE)
    }

    assert told - {"GET /"} == described


@pytest.mark.parametrize("name", sorted(OPENAPI["components"]["schemas"]))
def test_every_field_is_documented(name: str) -> None:
    fields = OPENAPI["components"]["schemas"][name].get("properties", {})

    assert {field for field in fields if f"`{field}`" not in DOCUMENT} == set()


def test_every_code_of_the_service_is_documented() -> None:
    codes = {kind.code for kind in kinds(EmbedError) if kind not in _NEVER_SHOWN and kind.__module__ == "worker.errors"}

    assert {code for code in codes if f"`{code}`" not in DOCUMENT} == set()


def test_every_code_of_a_request_is_documented() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "api").glob("*.py"))
    codes = set(re.findall(r'RequestProblem\(\s*\d{3},\s*"(\w+)"', sources))

    assert {"unauthorized", "too_much_work", "body_too_large", "no_embedding"} <= codes
    assert {code for code in codes if f"`{code}`" not in DOCUMENT} == set()
