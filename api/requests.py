"""What every request gets: an id, a line in the log, a place in the metrics, safe headers; an answer in any case."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import ApiMetrics
from api.problems import RequestProblem, answer_problem
from worker.logs import about_named

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Where an answer does not say otherwise. A picture or a file opened by itself may run nothing.
_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

#: Asked every few seconds by machines: news only when they fail.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class Requests:
    """The outermost of the application's layers."""

    def __init__(self, app: ASGIApp, *, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        with about_named(request=exchange.id):
            try:
                await self._answer(exchange, receive)
            finally:
                self._note(exchange)

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except RequestProblem as problem:
            await exchange.refuse(problem, receive)
        except ClientDisconnect:
            # Nobody is left to be told.
            return
        except Exception:
            log.exception("%s %s failed", exchange.scope["method"], exchange.route)
            if exchange.is_started:
                # Half an answer cannot be taken back: the connection ends, so that its client knows.
                raise
            mistake = "A mistake in glm4v-embed itself: report it with the request's id and the service's log."
            await exchange.refuse(RequestProblem(500, "internal_error", mistake), receive)

    def _note(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.began
        # Without a status: its client left before there was one.
        status = exchange.status or 499
        method = exchange.scope["method"]
        self._metrics.observe(
            route=exchange.route, method=method, status=status, seconds=seconds, is_stream=exchange.is_event_stream
        )
        level = logging.DEBUG if exchange.route in _QUIET and status < 500 else logging.INFO
        log.log(level, "%s %s %d %.0f ms", method, exchange.path, status, seconds * 1000)


class Exchange:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self.began = time.perf_counter()
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        self.status: int | None = None
        self.is_event_stream = False
        scope.setdefault("state", {})["request_id"] = self.id

    @property
    def is_started(self) -> bool:
        return self.status is not None

    @property
    def route(self) -> str:
        """The template of the path; one name for all paths that there are not."""
        return getattr(self.scope.get("route"), "path", None) or (
            self.scope["path"] if self.scope["path"] in _QUIET else "unknown"
        )

    @property
    def path(self) -> str:
        """The path as a line of a log can hold it."""
        return self.scope["path"][:200].encode("unicode_escape").decode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            self.is_event_stream = headers.get("content-type", "").startswith("text/event-stream")
        await self._send(message)

    async def refuse(self, problem: RequestProblem, receive: Receive) -> None:
        await answer_problem(problem, request_id=self.id)(self.scope, receive, self.send)
