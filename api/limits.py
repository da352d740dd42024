"""How long a request may be, whether or not it says so beforehand."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import RequestProblem
from worker.settings import Settings

UPLOADS_PATH = "/v1/uploads"


class BodyLimit:
    """Refuses a body at the byte that is one too many; nothing beyond it is held in memory."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == UPLOADS_PATH
        most = self._settings.max_source_bytes if is_upload else self._settings.max_body_bytes
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise too_large(most, is_upload=is_upload)
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > most:
                raise too_large(most, is_upload=is_upload)
            return message

        await self._app(scope, counted, send)


def too_large(most: int, *, is_upload: bool) -> RequestProblem:
    advice = "shrink the file or raise GLM4V_MAX_SOURCE_BYTES" if is_upload else "send the items in several requests"
    return RequestProblem(413, "body_too_large", f"A body of at most {most:,} bytes is taken here: {advice}.")
