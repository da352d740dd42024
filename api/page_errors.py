"""Problems told to a person: a browser is shown the same status, code and sentence as a page."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE
from api.rendering import render
from glm4v_client.records import Problem


class ErrorPages:
    """Turns every problem that a browser would show its user into a page, wherever it arose."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_for_a_person(scope):
            send = _ProblemReader(scope, receive, send)
        await self._app(scope, receive, send)


class _ProblemReader:
    """Holds a problem back until it is whole; lets every other answer through as it comes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers: MutableHeaders | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type") == MEDIA_TYPE:
                self._headers = headers
        if self._headers is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_page(self._headers)

    async def _send_page(self, headers: MutableHeaders) -> None:
        problem = Problem.model_validate_json(self._body)
        page = render("error.html", problem.status, problem=problem)
        for name, value in headers.items():
            page.headers.setdefault(name, value)
        await page(self._scope, self._receive, self._send)


def _is_for_a_person(scope: Scope) -> bool:
    # Programs ask below /v1, even those that run in a browser.
    return not scope["path"].startswith("/v1/") and "text/html" in Headers(scope=scope).get("accept", "")
