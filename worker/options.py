"""Job options that come from outside."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short_repr
from typing import Any

from pydantic import ValidationError

from glm4v_client.options import EmbedOptions
from worker.errors import InvalidOptions


def parse_options(values: Mapping[str, Any]) -> EmbedOptions:
    """Read options.

    Raises:
        InvalidOptions: names every option that is unknown or out of range.
    """
    try:
        return EmbedOptions.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidOptions(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    known = ", ".join(EmbedOptions.model_fields)
    faults = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            faults.append(f"there is no option {name!r}, only {known}")
        elif name:
            faults.append(f"{name} is {short_repr(fault['input'])}: {fault['msg']}")
        else:
            faults.append(fault["msg"].removeprefix("Value error, "))
    return "correct the options: " + "; ".join(faults)
