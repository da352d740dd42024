"""Pictures of items: tokens in colours, beside the source where it can be shown."""

from __future__ import annotations

import hashlib
import io
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from tests.clips import write_numbered_clip
from tests.repositories import claim_all
from tests.served_api import ServedApi
from worker.artefact import ArtefactWriter
from worker.records import EmbeddingRecord, NewJob, Source, Succeeded

GRID = (1, 8, 12)


def embed(
    api: ServedApi,
    source: str,
    content: bytes,
    *,
    grid: tuple[int, int, int] = GRID,
    seconds: list[float] | None = None,
) -> int:
    """An item of this source whose tokens were, as it were, made of this content. Returns its id."""
    times, height, width = grid
    header = ArtefactHeader(
        kind=MediaKind.IMAGE if seconds is None else MediaKind.VIDEO,
        model="random:tiny",
        fingerprint="f" * 64,
        content_sha256=hashlib.sha256(content).hexdigest(),
        dtype="float32",
        num_tokens=times * height * width // 4,
        dim=16,
        grid_thw=grid,
        timestamps=None if seconds is None else tuple(seconds),
        frame_indices=None if seconds is None else tuple(range(2 * times)),
    )
    key = f"embeddings/{uuid.uuid4().hex}"
    with api.storage.writer(key) as file:
        artefact = ArtefactWriter(file, header)
        artefact.write(np.random.default_rng(0).normal(size=(header.num_tokens, 16)).astype("<f4").tobytes())
        artefact.finish()
    job, _ = api.repository.create_job(NewJob(model="random:tiny"), [Source(source=source)], close=True)
    (item,) = claim_all(api.repository, job)
    embedding = EmbeddingRecord(
        content_sha256=header.content_sha256,
        fingerprint=header.fingerprint,
        kind=header.kind,
        object_key=key,
        grid_thw=grid,
        timestamps=header.timestamps,
        frame_indices=header.frame_indices,
        num_tokens=header.num_tokens,
        dim=header.dim,
        dtype=header.dtype,
        byte_size=file.size,
        object_sha256=file.sha256,
    )
    api.repository.record([Succeeded(item=item, embedding=embedding)])
    return item.id


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (120, 80), colour).save(file, "PNG")
    return file.getvalue()


def upload(api: ServedApi, content: bytes) -> str:
    return api.client.post("/v1/uploads", content=content).json()["source"]


def picture_of(api: ServedApi, item_id: int) -> tuple[Image.Image, dict[str, str]]:
    answer = api.client.get(f"/v1/items/{item_id}/preview.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return Image.open(io.BytesIO(answer.content)), dict(answer.headers)


def test_an_image_is_shown_beside_its_tokens_and_is_not_sent_twice(api: ServedApi) -> None:
    content = png("red")
    item = embed(api, upload(api, content), content)

    picture, headers = picture_of(api, item)

    assert picture.getpixel((5, 5)) == (255, 0, 0)
    assert picture.getpixel((picture.width - 5, 5)) != (255, 0, 0)
    again = api.client.get(f"/v1/items/{item}/preview.png", headers={"if-none-match": headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_clip_is_shown_frame_by_frame(api: ServedApi, tmp_path: Path) -> None:
    clip = write_numbered_clip(tmp_path / "clip.mp4", 20)
    content = clip.read_bytes()
    item = embed(api, upload(api, content), content, grid=(3, 8, 12), seconds=[0.0, 0.2, 0.4])
    alone = embed(api, "file:///nowhere.mp4", content, grid=(3, 8, 12), seconds=[0.0, 0.2, 0.4])

    picture, headers = picture_of(api, item)

    tokens_alone, _ = picture_of(api, alone)
    assert "etag" in headers
    assert picture.height == tokens_alone.height
    assert picture.width > 2 * tokens_alone.width


@pytest.mark.parametrize("why", ["outside", "changed", "no image", "private address"])
def test_tokens_are_shown_alone_where_the_source_cannot_be(api: ServedApi, tmp_path: Path, why: str) -> None:
    content = png("red")
    (tmp_path / "secret.png").write_bytes(content)
    source = {
        "outside": f"file://{tmp_path}/secret.png",
        "changed": upload(api, png("blue")),
        "no image": upload(api, b"no image at all"),
        "private address": "http://127.0.0.1:9/cat.png",
    }[why]

    picture, headers = picture_of(api, embed(api, source, b"no image at all" if why == "no image" else content))

    assert "etag" not in headers
    assert picture.getpixel((5, 5)) not in [(255, 0, 0), (0, 0, 255)]


def test_of_a_long_clip_only_some_temporal_patches_are_read_and_drawn(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 600
    item = embed(api, "file:///nowhere", b"", grid=(times, 4, 4), seconds=[float(time) for time in range(times)])
    read: list[int] = []
    whole = api.service.storage.open

    def counted(key: str, start: int = 0, length: int | None = None):
        if length is not None:
            read.append(length)
        return whole(key, start, length)

    monkeypatch.setattr(api.service.storage, "open", counted)
    picture, _ = picture_of(api, item)

    assert sum(read) == 12 * 4 * 16 * 4
    assert picture.height < 12 * 200
