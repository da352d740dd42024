"""Every command is explained alike."""

from __future__ import annotations

import re

import pytest
from typer.main import get_group

from tests.conftest import REPOSITORY
from worker.cli import app

COMMANDS = get_group(app).commands
DOCUMENT = (REPOSITORY / "docs" / "cli.md").read_text()


def test_the_document_has_an_example_of_every_command() -> None:
    assert set(re.findall(r"^glm4v ([a-z]+)", DOCUMENT, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"weights"}))
def test_help_has_examples_and_exit_codes(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert re.search(rf"^\s+.*glm4v {name}\b", text, re.MULTILINE)
    assert "Exit code: 0" in text or name in {"serve", "worker"}
    # What the list of commands shows: one short sentence.
    assert len(text.partition("\n\n")[0]) < 80


def test_every_command_that_asks_a_service_takes_its_address_and_key() -> None:
    for name in ("submit", "status", "watch", "items", "fetch", "cancel", "retry"):
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {"--url", "--api-key", "--json"} <= options
