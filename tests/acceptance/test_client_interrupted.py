"""Ctrl-C, as a real signal to a real program that uses the client."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glm4v_client import EmbeddingClient
from tests.artefacts import artefact_of
from tests.fake_server import fake_service
from tests.fake_service import FakeService, Held

SUBMIT = """
from itertools import count

def sources():
    for position in count():
        if position == 5000:
            print("under way", flush=True)
        yield f"s3://m/{position}"

client.submit(sources())
"""

WAIT = """
job = client.submit(["s3://m/a"])
print("under way", flush=True)
job.wait()
"""

DOWNLOAD = """
(job,) = client.jobs()
job.download("tokens", on_file=lambda download: print("under way", flush=True))
"""

ASYNCHRONOUS = """
import asyncio
from glm4v_client import AsyncEmbeddingClient

async def main():
    async with AsyncEmbeddingClient() as client:
        async for job in client.jobs():
            await job.download("tokens", on_file=lambda download: print("under way", flush=True))

asyncio.run(main())
"""


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


def interrupt(program: str, service: FakeService, folder: Path, *, then: Callable[[], object] = lambda: None) -> None:
    """Run it until it says that it is under way, press Ctrl-C, and see that it ends by that and nothing else."""
    start = "from glm4v_client import EmbeddingClient\nclient = EmbeddingClient()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", start + program],
        cwd=folder,
        env={"GLM4V_URL": service.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "under way\n"
        child.send_signal(signal.SIGINT)
        then()
        _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT, errors
    assert errors.splitlines()[-1].startswith(("KeyboardInterrupt", "job "))


def test_a_submission_is_cancelled(service: FakeService, tmp_path: Path):
    interrupt(SUBMIT, service, tmp_path)
    assert service.only_job.is_cancelled
    assert len(service.only_job.items) >= 3000


def test_waiting_leaves_the_job_alone(service: FakeService, tmp_path: Path):
    service.pace = 0
    interrupt(WAIT, service, tmp_path)
    assert not service.only_job.is_cancelled


@pytest.mark.parametrize("program", [DOWNLOAD, ASYNCHRONOUS], ids=["blocking", "asynchronous"])
def test_a_download_leaves_whole_files_and_is_gone_on_with(service: FakeService, tmp_path: Path, program: str):
    sources = [f"s3://m/{position}" for position in range(300)]
    with EmbeddingClient(service.url) as client:
        job = client.submit(sources)
        job.wait()

        # Eight at once are held here, so that there is something left when the signal comes.
        gate = threading.Event()
        service.fail(r"GET /v1/items/5\d/embedding", *[Held(gate)] * 10)
        interrupt(program, service, tmp_path, then=gate.set)

        there = {path.name: path.read_bytes() for path in (tmp_path / "tokens").iterdir() if path.name != ".lock"}
        whole = {f"{place:08}.safetensors": artefact_of(source) for place, source in enumerate(sources)}
        assert 1 <= len(there) < len(whole)
        assert there.items() <= whole.items()
        assert job.download(tmp_path / "tokens").written == len(whole) - len(there)
