"""The client against the API in a process of its own, over SQLite and a directory, with a worker beside it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from glm4v_client import (
    AsyncEmbeddingClient,
    Conflict,
    EmbeddingClient,
    EmbedOptions,
    InvalidRequest,
    ItemRequest,
    JobFailed,
    JobState,
    NoEmbedding,
    NotFound,
    RetryPolicy,
    Unauthorized,
)
from tests.clients import OnLoop
from tests.fake_encoder import FakeEncoder
from tests.lossy_line import LossyLine
from tests.servers import free_port
from worker.database import migrate
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.resident import ResidentWorker

KEYS = {"tests": "first-key", "others": "second-key"}

#: A model that no worker serves: its items wait for ever.
NOBODY = "nobody"


@dataclass(frozen=True)
class RunningService:
    url: str
    port: int


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = OutputFolder(tmp_path_factory.mktemp("service"))
    migrate(folder.database_url)
    settings = embedded_settings(folder, model="fake", dtype="float32", decode_processes=1, item_threads=4)
    worker = ResidentWorker(settings, folder, load=lambda _: FakeEncoder())
    worker.start()
    port = free_port()
    try:
        with api(folder, port) as url:
            yield RunningService(url, port)
    finally:
        worker.stop()


@contextmanager
def api(folder: OutputFolder, port: int) -> Iterator[str]:
    """The API in a process of its own, until the block ends; gives its URL."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, env={**os.environ, **environment(folder)}) as server:
        try:
            wait_until_ready(url, server)
            yield url
        finally:
            server.terminate()


def environment(folder: OutputFolder) -> dict[str, str]:
    digests = [f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()]
    return {
        "GLM4V_DATABASE_URL": folder.database_url,
        "GLM4V_STORE_URL": folder.store_url,
        "GLM4V_MODEL": "fake",
        "GLM4V_LOG_LEVEL": "warning",
        "GLM4V_API_KEYS": ",".join(digests),
    }


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the API has ended"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the API does not answer"
        time.sleep(0.05)


@pytest.fixture(params=["blocking", "asynchronous"])
def face(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(face: str, running: RunningService) -> Iterator[Any]:
    yield from connected(face, running.url)


def connected(face: str, url: str, **arguments: Any) -> Iterator[Any]:
    if face == "blocking":
        with EmbeddingClient(url, api_key="first-key", **arguments) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client = AsyncEmbeddingClient(url, api_key="first-key", **arguments)
        yield OnLoop(client, runner)
        runner.run(client.close())


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"photo {number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (224, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def test_local_files_go_all_the_way_to_tensors(client: Any, photos: list[Path], tmp_path: Path):
    clip = ItemRequest(source=str(photos[2]), kind="image", options=EmbedOptions(max_pixels=112 * 112))
    job = client.submit([photos[0], str(photos[1]), clip, photos[0]], labels={"set": "whole way"})

    seen = list(job.watch())

    assert seen[-1].state is JobState.FINISHED
    assert (job.counts.succeeded, job.record.owner, job.record.closed_at is not None) == (4, "tests", True)
    items = list(job.items())
    assert [item.position for item in items] == [0, 1, 2, 3]
    assert [item.grid_thw for item in items] == [(1, 16, 8), (1, 16, 8), items[2].grid_thw, (1, 16, 8)]
    tokens = [item.embedding() for item in items]
    assert [tensor.to_torch().shape for tensor in tokens[:2]] == [(32, 8), (32, 8)]
    assert tokens[0].to_torch().equal(tokens[3].to_torch())
    assert not tokens[0].to_torch().equal(tokens[1].to_torch())
    assert tokens[2].header.num_tokens == items[2].num_tokens < 32

    summary = job.download(tmp_path / "tokens", concurrency=3)
    assert (summary.written, summary.is_complete) == (4, True)
    assert job.download(tmp_path / "tokens").kept == 4
    stored = load_file(tmp_path / "tokens" / "00000001.safetensors")
    assert stored["embeddings"].equal(tokens[1].to_torch())
    assert stored["embeddings"].dtype == torch.float32


def test_what_fails_says_so_and_costs_no_other(client: Any, photos: list[Path], tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    job = client.submit([photos[0], tmp_path / "broken.png", "file:///etc/passwd"])

    assert job.wait(timeout=60).counts.failed == 2
    with pytest.raises(JobFailed, match="2 of 3 items failed") as caught:
        job.raise_for_failures()
    assert caught.value.codes == {"unsupported_media": 1, "forbidden_path": 1}
    (broken,) = job.items(state="failed", code="unsupported_media")
    assert (broken.position, broken.error.code) == (1, "unsupported_media")
    with pytest.raises(NoEmbedding, match=r"item 1 .* is failed; unsupported_media: "):
        broken.embedding()

    assert (job.retry_failed(code="forbidden_path"), broken.retry()) == (1, True)
    assert job.wait(timeout=60).counts.failed == 2
    summary = job.download(tmp_path / "tokens")
    assert (summary.written, dict(summary.without_embedding)) == (1, {"unsupported_media": 1, "forbidden_path": 1})


def test_thousands_are_handed_over_in_order_and_cancelled(client: Any):
    sources = [f"s3://media/{position}.jpg" for position in range(2500)]

    job = client.submit(iter(sources), model=NOBODY, priority=9, options=EmbedOptions(fps=2.0))

    assert (job.counts.total, job.counts.queued, job.state) == (2500, 2500, JobState.QUEUED)
    assert [item.source for item in job.items()] == sources
    assert job.record.options == EmbedOptions(fps=2.0)
    assert [queue.queued for queue in client.queues() if queue.model == NOBODY] == [2500]
    assert job.cancel().state is JobState.CANCELLED
    assert job.wait(timeout=60).counts.cancelled == 2500
    assert [progress.state for progress in job.watch()] == [JobState.CANCELLED]
    job.delete()
    job.delete()
    with pytest.raises(NotFound, match="job_not_found"):
        job.refresh()


@pytest.mark.parametrize("number", [1, 2500])
def test_the_same_key_is_the_same_job(client: Any, face: str, number: int):
    key, sources = f"{face}-{number}", [f"s3://media/{position}.jpg" for position in range(number)]
    job = client.submit(sources, model=NOBODY, idempotency_key=key)

    again = client.submit(sources, model=NOBODY, idempotency_key=key)

    assert (again.id, again.counts.total) == (job.id, number)
    with pytest.raises(Conflict, match="idempotency_conflict"):
        client.submit(sources, model=NOBODY, labels={"other": "contents"}, idempotency_key=key)
    job.delete()


def test_a_submission_that_breaks_off_is_gone_on_with_under_its_key(client: Any, face: str):
    sources = [f"s3://media/{position}.jpg" for position in range(4200)]

    def until(end: int) -> Iterator[str]:
        yield from sources[:end]
        raise KeyError("the producer's own fault")

    with pytest.raises(KeyError):
        client.submit(until(3300), model=NOBODY, idempotency_key=f"{face}-broken")
    job = client.submit(sources, model=NOBODY, idempotency_key=f"{face}-broken")

    assert (job.counts.total, job.state) == (4200, JobState.QUEUED)
    assert [item.source for item in job.items()] == sources
    job.delete()


def test_a_submission_that_breaks_off_without_a_key_is_cancelled(client: Any, face: str):
    def sources() -> Iterator[str]:
        yield from (f"s3://media/{position}.jpg" for position in range(2100))
        raise KeyError("the producer's own fault")

    with pytest.raises(KeyError):
        client.submit(sources(), model=NOBODY, labels={"broken": face})
    (job,) = client.jobs(label=("broken", face))
    assert (job.state, job.counts.total) == (JobState.CANCELLED, 1000)


def test_over_a_line_that_loses_answers_all_arrives_once(
    face: str, running: RunningService, photos: list[Path], tmp_path: Path
):
    # Of three connections one breaks as the answer comes, one soon after its start, and one holds for some answers.
    line = LossyLine(running.port, itertools.cycle([0, 300, 200_000]))
    sources = [f"s3://media/{position}.jpg" for position in range(2500)]
    retry = RetryPolicy(attempts=20, base_seconds=0.01, limit_seconds=0.02)
    try:
        for client in connected(face, line.url, retry=retry):
            many = client.submit(sources, model=NOBODY)
            assert [item.source for item in many.items()] == sources
            many.cancel()
            many.delete()
            job = client.submit(photos)
            *_, last = job.watch()
            assert last.counts.succeeded == 3
            assert job.download(tmp_path / "tokens").is_complete
    finally:
        line.close()
    assert line.broken > 10


def test_watching_outlives_a_restart_of_the_service(face: str, tmp_path: Path):
    folder, port = OutputFolder(tmp_path), free_port()
    migrate(folder.database_url)
    with api(folder, port) as url:
        clients = connected(face, url)
        job = next(clients).submit(["s3://media/a.jpg"])
        watched = job.watch()
        assert next(watched).state is JobState.QUEUED
    with api(folder, port):
        with EmbeddingClient(url, api_key="first-key") as other:
            other.job(job.id).cancel()
        assert [progress.state for progress in watched][-1] is JobState.CANCELLED
        assert list(clients) == []


def test_jobs_are_listed_by_label_and_state(client: Any, face: str, photos: list[Path]):
    jobs = [client.submit([photos[0]], labels={"listed": f"{face}:{number}"}) for number in range(2)]
    for job in jobs:
        job.wait(timeout=60)
    assert [job.id for job in client.jobs(state="finished", label=("listed", f"{face}:1"))] == [jobs[1].id]
    assert jobs[0].id in {job.id for job in client.jobs()}
    item = next(jobs[0].items())
    assert client.item(item.id).record.embedding == item.record.embedding


def test_the_worker_is_listed(client: Any):
    assert ("fake", True) in [(worker.model, worker.is_alive) for worker in client.workers()]


def test_keys_see_their_own_jobs_only(running: RunningService, photos: list[Path]):
    with (
        EmbeddingClient(running.url, api_key="first-key") as first,
        EmbeddingClient(running.url, api_key="second-key") as second,
        EmbeddingClient(running.url, api_key="no key of theirs") as stranger,
    ):
        job = first.submit([photos[0]])
        with pytest.raises(NotFound, match="job_not_found"):
            second.job(job.id)
        assert job.id not in {other.id for other in second.jobs()}
        with pytest.raises(Unauthorized, match="unauthorized"):
            stranger.job(job.id)


def test_what_the_service_does_not_take_is_an_error_with_its_code(client: Any, tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InvalidRequest, match="empty_file"):
        client.upload(tmp_path / "empty.jpg")
    with pytest.raises(InvalidRequest, match="invalid_request"):
        list(client.jobs(state="unheard of"))
