"""docker-compose.yml as Compose reads it: variables filled in, overrides laid over it. Only what our files use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.conftest import REPOSITORY

FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.seaweedfs.yml", "docker-compose.s3.yml")

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\}")


class UnsetVariableError(Exception):
    """A variable that must be set is not; the message is the file's."""


def compose(*overrides: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """The services of docker-compose.yml and of overrides, with every variable filled in."""
    merged: dict[str, Any] = {}
    for name in ("docker-compose.yml", *overrides):
        merged = _over(merged, raw(name))
    services: dict[str, Any] = _filled(merged["services"], variables)
    return services


def raw(name: str) -> dict[str, Any]:
    """A file as it is written, merge keys resolved."""
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text())
    return content


def required_variables(name: str) -> set[str]:
    """What `${NAME:?...}` asks for."""
    text = (REPOSITORY / name).read_text()
    return {match["name"] for match in _VARIABLE.finditer(text) if match["operator"] == ":?"}


def image_command(target: str) -> list[str]:
    """CMD of a target of the Dockerfile."""
    stage = (REPOSITORY / "Dockerfile").read_text().split(f" AS {target}\n")[1].split("\nFROM ")[0]
    command: list[str] = json.loads(re.findall(r"^CMD (.*)$", stage, re.MULTILINE)[-1])
    return command


def _over(base: Any, override: Any) -> Any:
    """Maps are merged; of what our overrides give, lists replace."""
    if isinstance(base, dict) and isinstance(override, dict):
        return {**base, **{name: _over(base.get(name), value) for name, value in override.items()}}
    return override


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, variables) for part in value]
    return _VARIABLE.sub(lambda match: _value(match, variables), value) if isinstance(value, str) else value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["name"] is None:
        return "$"
    value = variables.get(match["name"], "")
    if not value and match["operator"] == ":?":
        raise UnsetVariableError(f"{match['name']}: {match['rest']}")
    return value or (match["rest"] if match["operator"] == ":-" else "")
