"""Files that are handed to the service for its workers to read."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from api.caller import Called
from api.limits import UPLOADS_PATH
from api.problems import documented
from glm4v_client.records import Upload
from worker.errors import EmptyFile
from worker.storage import ObjectWriter

router = APIRouter(tags=["uploads"])

#: Bytes that are gathered before a thread is asked to write them.
_GULP = 1 << 20

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
    }
}


@router.post(UPLOADS_PATH, status_code=201, openapi_extra=_BODY, responses=documented(413, 422))
async def upload(
    request: Request,
    caller: Called,
    name: Annotated[str, Query(max_length=1024, description="of the file, for people to read")] = "upload",
) -> Upload:
    """Keep the body, an image or a video as it is, and answer with what to submit."""
    uploads = caller.service.uploads
    key = uploads.new_key(name)
    kept = await _store(request, await run_in_threadpool(lambda: uploads.storage.writer(key)))
    return Upload(source=uploads.reference(key), byte_size=kept.size, sha256=kept.sha256)


async def _store(request: Request, opening: AbstractContextManager[ObjectWriter]) -> ObjectWriter:
    """Write the body as it arrives; nothing of it stays behind when it breaks off."""
    writer = await run_in_threadpool(opening.__enter__)
    try:
        held = bytearray()
        async for chunk in request.stream():
            held += chunk
            if len(held) >= _GULP:
                await run_in_threadpool(writer.write, bytes(held))
                held.clear()
        if held:
            await run_in_threadpool(writer.write, bytes(held))
        if writer.size == 0:
            raise EmptyFile("The upload has no bytes: send the file as the request's body.")
    except BaseException as error:
        # Also when the server gives the request up: the store must hear of it.
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(_abandon, opening, error)
        raise
    await run_in_threadpool(opening.__exit__, None, None, None)
    return writer


def _abandon(opening: AbstractContextManager[ObjectWriter], error: BaseException) -> None:
    try:
        opening.__exit__(type(error), error, error.__traceback__)
    except BaseException as again:
        if again is not error:
            raise
