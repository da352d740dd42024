"""`uvicorn api.main:app`: the application of the environment's settings."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from api.application import create_app
from api.service import open_service
from worker.errors import EmbedError
from worker.logs import configure_logging
from worker.settings import Settings, load_settings


class EnvironmentApplication:
    """Reads the settings when the server starts it, not when it is imported."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                self._app = build()
            except EmbedError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": error.message})
                return
        if self._app is None:
            raise RuntimeError("the server did not start the application: run uvicorn without --lifespan off")
        await self._app(scope, receive, send)


def build() -> FastAPI:
    """
    Raises:
        InvalidSettings: names every variable that is unknown, missing or impossible.
    """
    settings = load_settings(Settings)
    configure_logging(settings)
    _quieten_uvicorn()
    return create_app(open_service(settings))


def _quieten_uvicorn() -> None:
    """Its lines in our format, and none for each request: api.requests writes those."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"


app = EnvironmentApplication()
