"""The API's description of itself. `python -m api.openapi` rewrites docs/openapi.json, which a test compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.auth import OPEN_PATHS
from glm4v_client.records import Problem

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"

_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "password": {"type": "http", "scheme": "basic", "description": "any user name, an API key as the password"},
}


def document(app: FastAPI) -> dict[str, Any]:
    """What FastAPI tells of the routes, with keys and problems, which do not pass through its routes."""
    if app.openapi_schema is None:
        told = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = told.setdefault("components", {})
        components["schemas"]["Problem"] = Problem.model_json_schema()
        components["schemas"] = dict(sorted(components["schemas"].items()))
        components["securitySchemes"] = _SCHEMES
        for path, operations in told["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN_PATHS else [{name: []} for name in _SCHEMES]
        app.openapi_schema = told
    return app.openapi_schema


def methods_of(app: FastAPI, path: str) -> list[str]:
    """The methods that a path takes; none where it is not described."""
    described = document(app)["paths"].items()
    found = (methods for template, methods in described if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path))
    return sorted(method.upper() for method in next(found, {}))


def text(app: FastAPI) -> str:
    return json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    # Both import this module.
    from api.application import create_app
    from api.service import open_service
    from worker.settings import Settings

    # Nothing is opened: the description is the same for every service.
    settings = Settings(database_url="sqlite:////nowhere/jobs.db", store_url="file:///nowhere")
    PATH.write_text(text(create_app(open_service(settings))))
    sys.stdout.write(f"{PATH} is written.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
