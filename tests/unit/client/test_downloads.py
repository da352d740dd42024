from __future__ import annotations

import fcntl
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from glm4v_client import DamagedDownload, DownloadState, InvalidArgument, NoEmbedding
from tests.artefacts import artefact_of
from tests.fake_service import Cut, Dropped, FakeService, Flipped, Refused, Unranged

SOURCES = [f"s3://m/{position}" for position in range(7)]


def done_job(client: Any, sources: list[str]) -> Any:
    job = client.submit(sources)
    job.wait()
    return job


def written(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


def expected(sources: list[str]) -> dict[str, bytes]:
    return {f"{place:08}.safetensors": artefact_of(source) for place, source in enumerate(sources)}


def test_an_items_embedding_comes_with_its_grid(client: Any, service: FakeService):
    (item,) = done_job(client, ["s3://m/a"]).items()
    tokens = item.embedding()
    assert (item.grid_thw, tokens.grid_thw, tokens.shape, tokens.timestamps) == ((1, 4, 4), (1, 4, 4), (4, 8), None)
    assert tokens.header.content_sha256 == hashlib.sha256(b"s3://m/a").hexdigest()
    assert client.item(item.id).embedding().to_torch().equal(tokens.to_torch())


@pytest.mark.parametrize(
    "faults", [[Cut(100)], [Cut(1), Cut(300)], [Dropped(after_effect=True), Refused(503), Cut(200)]]
)
def test_what_breaks_off_is_gone_on_with_where_it_broke(client: Any, service: FakeService, faults: list[Any]):
    (item,) = done_job(client, ["s3://m/a"]).items()
    service.fail("GET .*/embedding", *faults)
    item.embedding()
    ranges = [headers.get("range") for headers in service.headers][-len(faults) :]
    assert len(service.requested("GET .*/embedding")) == len(faults) + 1
    assert any(ranges) == any(isinstance(fault, Cut) for fault in faults)


def test_a_download_that_creeps_forward_is_not_given_up(client: Any, service: FakeService):
    (item,) = done_job(client, ["s3://m/a"]).items()
    service.fail("GET .*/embedding", *[Cut(40)] * 10)
    item.embedding()


def test_a_link_to_the_store_is_followed_with_the_range_and_without_the_key(
    client: Any, service: FakeService, tmp_path: Path
):
    (item,) = done_job(client, ["s3://m/a"]).items()
    elsewhere = service.url.replace("127.0.0.1", "localhost")
    link = Refused(307, {"location": f"{elsewhere}/v1/items/{item.id}/embedding?link", "content-length": "0"}, b"")
    service.fail("GET .*/embedding$", Cut(100), link)
    item.embedding()
    assert [request.endswith("?link") for request in service.requests[-3:]] == [False, False, True]
    assert [headers.get("range") for headers in service.headers[-2:]] == ["bytes=100-"] * 2


def test_a_store_that_knows_no_ranges_begins_anew(client: Any, service: FakeService):
    (item,) = done_job(client, ["s3://m/a"]).items()
    service.fail("GET .*/embedding", Cut(100), Unranged())
    item.embedding()


def test_a_byte_that_is_another_is_noticed(client: Any, service: FakeService):
    (item,) = done_job(client, ["s3://m/a"]).items()
    service.fail("GET .*/embedding", Flipped(at=-1))
    with pytest.raises(DamagedDownload, match=r"item 0 \(s3://m/a\) has the digest"):
        item.embedding()


def test_an_item_without_embedding_says_why(client: Any, service: FakeService):
    failed, cancelled = client.submit(["s3://m/broken"]), client.submit(["s3://m/a"])
    failed.wait()
    cancelled.cancel()
    with pytest.raises(NoEmbedding, match=r"item 0 \(s3://m/broken\) is failed; corrupt_media: The file is damaged"):
        next(failed.items()).embedding()
    with pytest.raises(NoEmbedding, match="is cancelled"):
        next(cancelled.items()).embedding()


def test_a_directory_gets_every_embedding_and_the_summary_the_rest(client: Any, service: FakeService, tmp_path: Path):
    service.page = 3
    job = done_job(client, [*SOURCES, "s3://m/broken"])
    told = []

    summary = job.download(tmp_path / "new" / "folder", on_file=told.append)

    assert written(summary.directory) == expected(SOURCES)
    assert (summary.written, summary.kept, summary.failed) == (7, 0, [])
    assert summary.byte_size == sum(map(len, expected(SOURCES).values()))
    assert summary.without_embedding == {"corrupt_media": 1}
    assert not summary.is_complete
    assert sorted(download.item.position for download in told) == list(range(8))
    assert load_file(summary.directory / "00000000.safetensors")["embeddings"].dtype == torch.bfloat16


def test_the_same_call_again_fetches_only_what_is_missing_or_another_jobs(
    client: Any, service: FakeService, tmp_path: Path
):
    job = done_job(client, SOURCES)
    job.download(tmp_path)
    (tmp_path / "00000001.safetensors").unlink()
    (tmp_path / "00000002.safetensors").write_bytes(artefact_of("s3://another/job"))
    (tmp_path / "00000003.safetensors").write_bytes(artefact_of(SOURCES[3])[:-1])
    (tmp_path / ".00000004.safetensors.part").write_bytes(b"of a process that was killed")
    (tmp_path / "00000004.safetensors").unlink()
    before = len(service.requested("GET .*/embedding"))

    summary = job.download(tmp_path)

    assert (summary.written, summary.kept, summary.is_complete) == (4, 3, True)
    assert written(tmp_path) == expected(SOURCES)
    assert len(service.requested("GET .*/embedding")) == before + 4


def test_one_damaged_download_costs_no_other_and_leaves_no_file(client: Any, service: FakeService, tmp_path: Path):
    job = done_job(client, SOURCES)
    service.fail("GET /v1/items/3/embedding", Flipped(at=-1))

    summary = job.download(tmp_path)

    (failed,) = summary.failed
    assert (failed.item.position, failed.state, type(failed.error)) == (3, DownloadState.FAILED, DamagedDownload)
    assert written(tmp_path) == {name: data for name, data in expected(SOURCES).items() if "3" not in name}
    assert job.download(tmp_path).written == 1


def test_a_download_that_is_stopped_leaves_whole_files_and_no_others(client: Any, service: FakeService, tmp_path: Path):
    job = done_job(client, SOURCES)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.download(tmp_path, concurrency=2, on_file=stop)

    assert written(tmp_path).items() <= expected(SOURCES).items()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("glm4v-client")]
    assert job.download(tmp_path).is_complete


def test_two_downloads_do_not_share_a_directory(client: Any, service: FakeService, tmp_path: Path):
    job = done_job(client, SOURCES)
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InvalidArgument, match="another download into"):
            job.download(tmp_path)
    assert job.download(tmp_path).is_complete


def test_a_directory_that_cannot_be_written_ends_the_download(client: Any, service: FakeService, tmp_path: Path):
    job = done_job(client, SOURCES)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        job.download(tmp_path / "file")
