"""Artefacts over HTTP: whole, in ranges, under conditions, by a link."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from glm4v_client.artefact import read_artefact
from tests.repositories import claim_all, make_job, succeeded
from tests.served_api import ServedApi, problem_of


@pytest.fixture
def path(api: ServedApi) -> str:
    return f"/v1/items/{api.embedded_clip().id}/embedding"


@pytest.fixture
def content(api: ServedApi, path: str) -> bytes:
    return api.artefact(api.repository.get_item(int(path.split("/")[3])).embedding)


def test_an_artefact_is_sent_whole_with_its_digest_and_name(api: ServedApi, path: str, content: bytes) -> None:
    answer = api.client.get(path)

    assert (answer.status_code, answer.content) == (200, content)
    assert read_artefact(io.BytesIO(answer.content)).header.num_tokens == 72
    item = api.client.get(path.removesuffix("/embedding")).json()
    assert answer.headers["etag"] == f'"{item["embedding"]["object_sha256"]}"'
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == f'attachment; filename="photo-0-{item["id"]}.safetensors"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, None),
        ("bytes=-50", -50, None),
        ("bytes=100-999999999", 100, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range_is_sent_alone(
    api: ServedApi, path: str, content: bytes, asked: str, start: int, stop: int | None
) -> None:
    answer = api.client.get(path, headers={"range": asked})

    wanted = content[start:stop]
    first = content.index(wanted) if start < 0 else start
    assert (answer.status_code, answer.content) == (206, wanted)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(content)}"
    assert answer.headers["content-length"] == str(len(wanted))


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "lines=1-2", "bytes=a-b", "bytes=-"])
def test_what_is_no_single_range_is_answered_whole(api: ServedApi, path: str, content: bytes, asked: str) -> None:
    answer = api.client.get(path, headers={"range": asked})

    assert (answer.status_code, answer.content) == (200, content)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(api: ServedApi, path: str, content: bytes, asked: str) -> None:
    answer = api.client.get(path, headers={"range": asked})

    assert problem_of(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


def test_conditions_hold_by_the_digest(api: ServedApi, path: str, content: bytes) -> None:
    etag = api.client.get(path).headers["etag"]

    unchanged = api.client.get(path, headers={"if-none-match": f'"other", W/{etag}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert api.client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert api.client.get(path, headers={"range": "bytes=0-1", "if-range": etag}).status_code == 206
    assert api.client.get(path, headers={"range": "bytes=0-1", "if-range": '"other"'}).content == content


def test_an_item_without_an_embedding_says_what_it_is(api: ServedApi) -> None:
    job = api.make_job(1)
    (item,) = api.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"]

    for name in ("embedding", "preview.png"):
        answer = api.client.get(f"/v1/items/{item['id']}/{name}")
        assert problem_of(answer) == (404, "no_embedding")
        assert "queued" in answer.json()["detail"]


def test_an_artefact_that_the_store_lost_is_a_problem_and_no_broken_answer(api: ServedApi) -> None:
    job = make_job(api.repository, 1)
    (item,) = claim_all(api.repository, job)
    api.repository.record([succeeded(item)])

    for name in ("embedding", "preview.png"):
        assert problem_of(api.client.get(f"/v1/items/{item.id}/{name}")) == (404, "object_missing")


def test_where_the_store_is_public_clients_are_sent_there(tmp_path: Path) -> None:
    public = {
        "public_store_url": "s3://tokens?endpoint=https://store.example.org",
        "s3_access_key": "access",
        "s3_secret_key": "secret-key",
        "public_link_seconds": 60,
    }
    with ServedApi(tmp_path, **public) as api:
        item = api.embedded_clip()
        answer = api.client.get(f"/v1/items/{item.id}/embedding")

    assert item.embedding is not None
    link = urlsplit(answer.headers["location"])
    assert answer.status_code == 307
    assert (link.scheme, link.netloc) == ("https", "store.example.org")
    assert link.path == f"/tokens/{item.embedding.object_key}"
    asked = parse_qs(link.query)
    assert asked["X-Amz-Expires"] == ["60"]
    assert asked["response-content-disposition"] == [f'attachment; filename="photo-0-{item.id}.safetensors"']
    assert "secret-key" not in answer.headers["location"]
