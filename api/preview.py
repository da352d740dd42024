"""An item's picture: its tokens in colours, beside its source where that can be shown."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import numpy as np
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.caller import Called
from api.clip_frames import NotShown, read_frames
from api.conditions import matches, quoted
from api.embeddings import require_embedding
from api.items import ItemId
from api.picture_cache import PictureCache
from api.problems import documented
from api.service import Service
from api.token_sample import read_sample, spread
from glm4v_client.artefact import Artefact
from glm4v_client.restoring import to_numpy
from glm4v_client.states import MediaKind
from glm4v_core.image_reading import read_image
from glm4v_core.media_errors import MediaError
from worker.errors import EmbedError
from worker.media import Media
from worker.picture import draw_tokens
from worker.records import EmbeddingRecord, ItemRecord

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["items"])

#: Temporal patches of a clip that are drawn, and tokens in all: an image of ordinary size has a few thousand.
_MOST_TIMES = 12
_MOST_TOKENS = 32_768
#: A larger source is not decoded for a picture this small.
_MOST_PIXELS = 50_000_000
_DECODE_SECONDS = 10.0
#: Pictures drawn at once: each takes a core and some hundred megabytes.
_AT_ONCE = 2

_PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One row for each temporal patch, of a long clip for twelve: the source at the left, where it"
        " can be read, and the tokens' first three principal components as red, green and blue",
        "content": _PNG,
    },
    304: {"description": "It is what `If-None-Match` names"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A drawn preview."""

    png: bytes
    #: Whether the source is beside the tokens.
    is_whole: bool


class Previews:
    """Draws pictures on threads, a few at a time, and keeps the latest."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._cache: PictureCache[Picture] = PictureCache(size=lambda picture: len(picture.png))
        self._room = anyio.CapacityLimiter(_AT_ONCE)

    async def picture(self, item: ItemRecord, embedding: EmbeddingRecord) -> Picture:
        """
        Raises:
            EmbedError: the artefact cannot be read.
        """
        key = f"{embedding.object_sha256} {item.source}"
        known = self._cache.get(key)
        if known is not None:
            return known
        drawn = await anyio.to_thread.run_sync(draw, self._service, item, embedding, limiter=self._room)
        # What keeps a source from being shown may pass; the tokens stay.
        self._cache.put(key, drawn, seconds=3600.0 if drawn.is_whole else 60.0)
        return drawn


@router.get("/items/{item_id}/preview.png", response_class=Response, responses={**documented(404, 422), **_ANSWERS})
async def show_preview(
    item_id: ItemId,
    caller: Called,
    request: Request,
    if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """The item's tokens as colours, beside its source."""
    item = await run_in_threadpool(caller.item, item_id)
    embedding = require_embedding(item)
    whole = quoted(embedding.object_sha256)
    headers = {"ETag": whole, "Cache-Control": "private, max-age=60"}
    if matches(if_none_match, whole):
        return Response(status_code=304, headers=headers)
    picture = await request.app.state.previews.picture(item, embedding)
    if not picture.is_whole:
        # Without a tag of its own it is asked for again, and may be whole by then.
        del headers["ETag"]
    return Response(picture.png, headers=headers, media_type="image/png")


def draw(service: Service, item: ItemRecord, embedding: EmbeddingRecord) -> Picture:
    """Read what is needed and draw it.

    Raises:
        EmbedError: the artefact cannot be read.
    """
    times_in_all, height, width = embedding.grid_thw
    most = max(1, min(_MOST_TIMES, _MOST_TOKENS // max(1, height * width // 4)))
    sample = read_sample(service.storage, embedding, spread(times_in_all, most))
    frames = _source_frames(service, item, embedding, sample)
    sheet = draw_tokens(to_numpy(sample).astype(np.float32), sample.header.grid_thw, frames)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return Picture(png=file.getvalue(), is_whole=bool(frames))


def _source_frames(
    service: Service, item: ItemRecord, embedding: EmbeddingRecord, sample: Artefact
) -> Sequence[Image.Image]:
    """A picture of the source for each temporal patch; none where it cannot be shown, which the log explains."""
    try:
        with service.fetcher.fetch(item.source, check=lambda: None) as media:
            if media.sha256 != embedding.content_sha256:
                raise NotShown("it is not what was embedded any more")
            return _frames(media, sample, max_pixels=min(_MOST_PIXELS, service.settings.max_frame_pixels))
    except (EmbedError, MediaError, NotShown) as error:
        log.info("item %d is drawn without its source: %s", item.id, error)
        return ()


def _frames(media: Media, sample: Artefact, *, max_pixels: int) -> list[Image.Image]:
    if sample.header.kind is MediaKind.IMAGE:
        return [read_image(media.path, max_pixels=_MOST_PIXELS)]
    moments = sample.header.timestamps or ()
    return read_frames(media.path, moments, max_pixels=max_pixels, patience=_DECODE_SECONDS)
