"""The worker of a folder's service, with a fake encoder that the test can hold or fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glm4v_client.states import ItemState
from tests.conftest import REPOSITORY
from tests.fake_encoder import FakeEncoder
from worker.database import create_engine, migrate
from worker.encoding import EncodeRequest
from worker.errors import EmbedError, InvalidSettings
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.records import ItemRecord, NewJob, Source
from worker.repository import Repository
from worker.resident import ResidentWorker

MODEL = "fake"


def photo(path: Path, number: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class Folder:
    """A folder's database, as its API sees it, and a worker for it."""

    def __init__(self, path: Path) -> None:
        self.folder = OutputFolder(path)
        migrate(self.folder.database_url)
        self.uploads = path / "uploads"
        self.repository = Repository(create_engine(self.folder.database_url))
        self.failures: list[EmbedError] = []
        self.failed = threading.Event()

    def worker(self, encoder: FakeEncoder | None = None, **settings: object) -> ResidentWorker:
        chosen = {"model": MODEL, "dtype": "float32", "decode_processes": 1, "item_threads": 4, **settings}
        return ResidentWorker(
            embedded_settings(self.folder, **chosen),
            self.folder,
            load=lambda _: encoder or FakeEncoder(),
            on_failure=self._fail,
        )

    def submit(self, *sources: str | Path) -> list[int]:
        new = NewJob(model=MODEL, options={"max_pixels": 112 * 112})
        job, _ = self.repository.create_job(new, [Source(source=str(source)) for source in sources], close=True)
        return [item.id for item in self.repository.list_items(job.id)]

    def items(self, ids: Sequence[int]) -> list[ItemRecord]:
        return [self.repository.get_item(item_id) for item_id in ids]

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def results(self, ids: Sequence[int]) -> list[tuple[ItemState, str | None]]:
        """Of the items, once all are done."""
        unfinished = (ItemState.QUEUED, ItemState.RUNNING)
        self.wait(lambda: not any(item.state in unfinished for item in self.items(ids)))
        return [(item.state, item.error_code) for item in self.items(ids)]

    def _fail(self, error: EmbedError) -> None:
        self.failures.append(error)
        self.failed.set()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "out")
    yield folder
    folder.repository.close()


def test_jobs_are_served_that_came_before_and_after_its_start(folder: Folder) -> None:
    uploads = [photo(folder.uploads / f"{number}.png", number) for number in range(3)]
    before = folder.submit(uploads[0])
    worker = folder.worker()
    worker.start()
    try:
        assert folder.results(before) == [(ItemState.SUCCEEDED, None)]
        after = folder.submit(f"file://{uploads[1]}", uploads[2])
        worker.wake()
        assert folder.results(after) == [(ItemState.SUCCEEDED, None)] * 2
        (item,) = folder.items(before)
        assert item.embedding is not None
        assert folder.folder.artefact(item.embedding.object_key).stat().st_size == item.embedding.byte_size
    finally:
        worker.stop()


def test_it_reads_uploads_and_the_allowed_folders_and_nothing_else(folder: Folder, tmp_path: Path) -> None:
    upload = photo(folder.uploads / "a.png")
    allowed, secret = photo(tmp_path / "allowed" / "b.png", 2), photo(tmp_path / "secret.png", 3)
    (folder.uploads / "link.png").symlink_to(secret)
    worker = folder.worker(file_roots=(tmp_path / "allowed",))
    worker.start()
    try:
        ids = folder.submit(upload, allowed, secret, folder.uploads / "link.png", folder.folder.path / "glm4v.sqlite3")
        assert folder.results(ids) == [(ItemState.SUCCEEDED, None)] * 2 + [(ItemState.FAILED, "forbidden_path")] * 3
    finally:
        worker.stop()


def test_a_folder_has_one_worker(folder: Folder) -> None:
    worker, other = folder.worker(), folder.worker()
    worker.start()
    try:
        with pytest.raises(InvalidSettings, match=f"process {os.getpid()} is at work"):
            other.start()
    finally:
        worker.stop()
    again = folder.worker()
    again.start()
    again.stop()


def test_it_is_among_the_workers_until_it_stops(folder: Folder) -> None:
    upload = photo(folder.uploads / "a.png")
    worker = folder.worker()
    worker.start()
    (row,) = folder.repository.workers()
    assert (row.model, row.device, row.dtype, row.is_alive) == (MODEL, "cpu", "float32", True)
    folder.results(folder.submit(upload))
    worker.stop()
    assert folder.repository.workers() == []


def test_a_stop_finishes_what_is_decoded_and_keeps_the_rest_for_the_next(folder: Folder) -> None:
    uploads = [photo(folder.uploads / f"{number}.png", number) for number in range(12)]
    encoding, go_on = threading.Event(), threading.Event()

    def hold(batch: Sequence[EncodeRequest]) -> None:
        if any(any(request.patches[:588]) for request in batch):
            encoding.set()
            go_on.wait(60)

    worker = folder.worker(FakeEncoder(before=hold))
    worker.start()
    ids = folder.submit(*uploads)
    assert encoding.wait(60)
    threading.Timer(0.3, go_on.set).start()
    worker.stop(drain_seconds=30)
    states = [item.state for item in folder.items(ids)]
    assert set(states) == {ItemState.SUCCEEDED, ItemState.QUEUED}, "nothing is left running"
    assert all(item.attempt == 0 for item in folder.items(ids) if item.state is ItemState.QUEUED)
    again = folder.worker()
    again.start()
    try:
        assert folder.results(ids) == [(ItemState.SUCCEEDED, None)] * 12
    finally:
        again.stop()


def test_an_encoder_that_works_no_more_ends_it_and_somebody_is_told(folder: Folder) -> None:
    upload = photo(folder.uploads / "a.png")

    used = threading.Event()

    def fail_for_ever(batch: Sequence[EncodeRequest]) -> None:
        if used.is_set() or any(any(request.patches[:588]) for request in batch):
            used.set()
            raise SystemError("CUDA error: an illegal memory access was encountered")

    worker = folder.worker(FakeEncoder(before=fail_for_ever))
    worker.start()
    folder.submit(upload)
    try:
        assert folder.failed.wait(60)
        assert "CUDA error" in folder.failures[0].message
    finally:
        worker.stop(0)


RESIDENT = """
import sys, threading
from pathlib import Path
from tests.fake_encoder import FakeEncoder
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.resident import ResidentWorker

def hang(batch):
    if any(any(request.patches[:588]) for request in batch):
        print("encoding", flush=True)
        threading.Event().wait()

folder = OutputFolder(Path(sys.argv[1]))
settings = embedded_settings(folder, model="fake", dtype="float32", decode_processes=1, item_threads=4)
worker = ResidentWorker(settings, folder, load=lambda _: FakeEncoder(before=hang))
worker.start()
threading.Event().wait()
"""


def test_a_killed_one_leaves_its_items_to_the_next(folder: Folder) -> None:
    ids = folder.submit(*(photo(folder.uploads / f"{number}.png", number) for number in range(6)))
    process = subprocess.Popen(
        [sys.executable, "-c", RESIDENT, str(folder.folder.path)], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"encoding\n"
        process.send_signal(signal.SIGKILL)
    assert ItemState.RUNNING in [item.state for item in folder.items(ids)]
    (dead,) = folder.repository.workers()
    worker = folder.worker()
    worker.start()
    try:
        assert folder.results(ids) == [(ItemState.SUCCEEDED, None)] * 6
        assert dead.name not in [one.name for one in folder.repository.workers()]
    finally:
        worker.stop()
