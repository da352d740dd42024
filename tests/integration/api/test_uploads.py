"""Files handed over: kept under names that nobody guesses, and readable for workers by their reference."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served_api import ServedApi, problem_of
from worker.fetching import open_fetcher


def uploaded(api: ServedApi) -> list[str]:
    return [found.key for found in api.storage.list("uploads")]


def test_an_upload_is_kept_whole_and_its_reference_is_what_workers_read(api: ServedApi) -> None:
    content = bytes(range(256)) * 9000

    answer = api.client.post("/v1/uploads?name=cat.jpg", content=content)

    assert answer.status_code == 201
    kept = answer.json()
    assert (kept["byte_size"], kept["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert kept["source"].endswith("/cat.jpg")
    with open_fetcher(api.settings) as fetcher, fetcher.fetch(kept["source"], check=lambda: None) as media:
        assert media.sha256 == kept["sha256"]


def test_two_uploads_of_one_name_are_two(api: ServedApi) -> None:
    sources = {api.client.post("/v1/uploads?name=a", content=b"x").json()["source"] for _ in range(2)}

    assert len(sources) == 2


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b%2F..%2Fc", ".hidden", "", "\u202egnp.exe", "x" * 1000])
def test_a_name_cannot_lead_out_of_the_folder(api: ServedApi, name: str) -> None:
    answer = api.client.post("/v1/uploads", params={"name": name}, content=b"x")

    assert answer.status_code == 201
    (key,) = uploaded(api)
    assert key.count("/") == 2
    assert ".." not in key.split("/")


def test_an_empty_upload_is_refused(api: ServedApi) -> None:
    assert problem_of(api.client.post("/v1/uploads", content=b"")) == (422, "empty_file")
    assert uploaded(api) == []


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 1000


def test_an_upload_that_is_too_long_leaves_nothing_behind_whether_it_says_so_or_not(tmp_path: Path) -> None:
    with ServedApi(tmp_path, max_source_bytes=5000) as api:
        assert problem_of(api.client.post("/v1/uploads", content=b"x" * 5001)) == (413, "body_too_large")
        assert problem_of(api.client.post("/v1/uploads", content=chunks(6))) == (413, "body_too_large")
        assert uploaded(api) == []
        assert list((tmp_path / "store" / ".incoming").iterdir()) == []
        assert api.client.post("/v1/uploads", content=chunks(5)).status_code == 201


def test_another_body_that_is_too_long_is_refused_too(tmp_path: Path) -> None:
    with ServedApi(tmp_path, max_body_bytes=2000) as api:
        announced = api.client.post("/v1/jobs", json={"items": ["x" * 3000]})
        streamed = api.client.post("/v1/jobs", content=chunks(3), headers={"content-type": "application/json"})

    assert problem_of(announced) == (413, "body_too_large")
    assert problem_of(streamed) == (413, "body_too_large")


def test_an_upload_goes_to_the_store_of_media_where_there_is_one(tmp_path: Path) -> None:
    with ServedApi(tmp_path, media_url=f"file://{tmp_path}/some%20media") as api:
        source = api.client.post("/v1/uploads?name=a.png", content=b"x").json()["source"]

        assert source.startswith(f"file://{tmp_path}/some%20media/uploads/")
        assert uploaded(api) == []
        with open_fetcher(api.settings) as fetcher, fetcher.fetch(source, check=lambda: None) as media:
            assert media.size == 1


def test_uploads_beside_each_other_do_not_mix(api: ServedApi) -> None:
    sizes: dict[int, int] = {}

    def upload(size: int) -> None:
        sizes[size] = api.client.post("/v1/uploads", content=b"x" * size).json()["byte_size"]

    threads = [threading.Thread(target=upload, args=(size * 700_000,)) for size in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sizes == {size: size for size in sizes}
    assert len(sizes) == 4
