"""An item's artefact: from the store through the API, whole or in ranges, or by a link to the store itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit

from fastapi import APIRouter, Header
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api.byte_ranges import NotSatisfiable, parse_range
from api.caller import Called, Caller
from api.conditions import matches, quoted
from api.items import ItemId
from api.problems import RequestProblem, documented
from worker.records import EmbeddingRecord, ItemRecord

router = APIRouter(prefix="/v1", tags=["items"])

MEDIA_TYPE = "application/vnd.safetensors"

_CHUNK = 1 << 20
_BINARY = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The artefact, a safetensors file: docs/formats.md", "content": _BINARY},
    206: {"description": "The bytes that `Range` asks for", "content": _BINARY},
    304: {"description": "It is what `If-None-Match` names"},
    307: {"description": "A link to the store, where GLM4V_PUBLIC_STORE_URL is set"},
}


@router.get(
    "/items/{item_id}/embedding",
    response_class=Response,
    responses={**documented(404, 416, 422), **_ANSWERS},
)
def read_embedding(
    item_id: ItemId,
    caller: Called,
    byte_range: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header(alias="If-Range")] = None,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """The item's tokens. The bytes of an artefact never change: its digest is the entity tag."""
    item = caller.item(item_id)
    embedding = require_embedding(item)
    etag = quoted(embedding.object_sha256)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=_headers(item, embedding))
    if caller.service.links is not None:
        link = caller.service.links.link(embedding.object_key, file_name=file_name(item))
        return RedirectResponse(link, 307)
    wanted = None
    if if_range is None or if_range == etag:
        wanted = _range(byte_range, embedding.byte_size)
    return _stream(caller, item, embedding, wanted)


def require_embedding(item: ItemRecord) -> EmbeddingRecord:
    """
    Raises:
        RequestProblem: the item has none.
    """
    if item.embedding is None:
        raise RequestProblem(
            404, "no_embedding", f"Item {item.id} has no embedding, it is {item.state}: wait for it, or retry it."
        )
    return item.embedding


def file_name(item: ItemRecord) -> str:
    """What to save an artefact as: the source's own name, as far as every system takes it."""
    stem = PurePosixPath(urlsplit(item.source).path if "://" in item.source else item.source).stem
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:80]
    return f"{plain or 'item'}-{item.id}.safetensors"


def _range(header: str | None, size: int) -> range | None:
    try:
        return parse_range(header, size)
    except NotSatisfiable as error:
        raise RequestProblem(
            416,
            "range_not_satisfiable",
            f"The artefact has {size:,} bytes and the range lies beyond them: ask for a part of it.",
            headers={"Content-Range": f"bytes */{size}"},
        ) from error


def _headers(item: ItemRecord, embedding: EmbeddingRecord) -> dict[str, str]:
    return {
        "ETag": quoted(embedding.object_sha256),
        "Accept-Ranges": "bytes",
        # The item may come to another artefact when it is computed again: a cache has to ask.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{file_name(item)}"',
    }


def _stream(caller: Caller, item: ItemRecord, embedding: EmbeddingRecord, wanted: range | None) -> Response:
    sent = range(embedding.byte_size) if wanted is None else wanted
    headers = {**_headers(item, embedding), "Content-Length": str(len(sent))}
    if wanted is not None:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{embedding.byte_size}"
    # Opened before the answer begins: what is missing must not break off an answer that promised it.
    file = caller.service.storage.open(embedding.object_key, sent.start)
    return ObjectResponse(file, len(sent), 200 if wanted is None else 206, headers)


class ObjectResponse(StreamingResponse):
    """Some bytes of an open file, which is closed however the answer ends."""

    def __init__(self, file: BinaryIO, length: int, status_code: int, headers: dict[str, str]) -> None:
        super().__init__(_chunks(file, length), status_code, headers, MEDIA_TYPE)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await run_in_threadpool(self._file.close)


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk
