"""Whether the process lives, and whether its servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from worker.errors import EmbedError

router = APIRouter(tags=["operation"])

#: Seconds that a server has to answer.
PATIENCE = 3.0

_NAMES = ("database", "broker", "store")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ServerHealth(BaseModel):
    """One server of the service."""

    ready: bool
    used: bool = Field(description="false: this service works without one")
    code: str | None = Field(description="why it is not ready; docs/api.md lists them")
    detail: str | None = Field(description="one sentence that says what to do")


class Readiness(BaseModel):
    """Whether requests can be served, and which server keeps them from it."""

    ready: bool
    servers: dict[str, ServerHealth]


class Checks:
    """Asks all servers at once. One that hangs is asked again only when it has answered or given up."""

    def __init__(self, checks: Mapping[str, Callable[[], None]], *, patience: float = PATIENCE) -> None:
        self._checks = checks
        self._patience = patience
        self._threads = ThreadPoolExecutor(max(1, len(checks)), thread_name_prefix="health")
        self._asked: dict[str, Future[None]] = {}

    async def run(self) -> Readiness:
        names = [name for name in _NAMES if name in self._checks]
        answers = dict(zip(names, await asyncio.gather(*map(self._ask, names)), strict=True))
        unused = ServerHealth(ready=True, used=False, code=None, detail=None)
        servers = {name: answers.get(name, unused) for name in _NAMES}
        return Readiness(ready=all(server.ready for server in servers.values()), servers=servers)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, name: str) -> ServerHealth:
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = self._threads.submit(self._checks[name])
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asked)), self._patience)
        except TimeoutError:
            return _failed("timeout", f"The {name} did not answer within {self._patience:g} s: see that it is up.")
        except EmbedError as error:
            # Anybody may ask this, and a message may hold names of the network: the code's own sentence says enough.
            return _failed(error.code, type(error)().message)
        return ServerHealth(ready=True, used=True, code=None, detail=None)


def _failed(code: str, detail: str) -> ServerHealth:
    return ServerHealth(ready=False, used=True, code=code, detail=detail)


@router.get("/healthz")
async def show_health() -> Alive:
    """The process is alive. It says nothing of its servers: a supervisor that restarts us does not mend them."""
    return Alive()


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "A server is away"}}


@router.get("/readyz", responses=_NOT_READY)
async def show_readiness(request: Request, response: Response) -> Readiness:
    """Whether database, broker and store answer, and which of them does not."""
    readiness: Readiness = await request.app.state.checks.run()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def show_metrics(request: Request) -> Response:
    """This process's numbers, for Prometheus."""
    return Response(request.app.state.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")
