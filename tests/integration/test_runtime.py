"""One process's items from claim to record, with a fake encoder that the test can hold or fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glm4v_client.artefact import read_artefact
from glm4v_client.states import ItemState, MediaKind
from tests.fake_encoder import DIM, FakeEncoder
from worker.database import migrate
from worker.encoding import EncodeRequest
from worker.records import ItemRecord, NewJob, Outcome, Source, Succeeded
from worker.runtime import Runtime
from worker.settings import Settings, load_settings

ONE_PIXEL = {"max_pixels": 112 * 112}


class Worker:
    """A runtime with a database and a store of its own."""

    def __init__(self, folder: Path, encoder: FakeEncoder, **settings: Any) -> None:
        self.folder = folder
        self.outcomes: list[Outcome] = []
        chosen = {"item_threads": 8, "decode_processes": 2, "model": "fake", "dtype": "float32", **settings}
        self.settings = load_settings(
            Settings, database_url=f"sqlite:///{folder}/db", store_url=f"file://{folder}/store", **chosen
        )
        migrate(self.settings.database_url)
        self.runtime = Runtime(self.settings, load=lambda _: encoder, observe=self.outcomes.append, any_path=True)
        self.repository = self.runtime.repository

    def submit(self, *sources: Path | str, kind: MediaKind = MediaKind.AUTO, **options: Any) -> list[int]:
        job, _ = self.repository.create_job(
            NewJob(model="fake", options=options or ONE_PIXEL),
            [Source(source=str(source), kind=kind) for source in sources],
            close=True,
        )
        return [item.id for item in self.repository.list_items(job.id)]

    def items(self, ids: Sequence[int]) -> list[ItemRecord]:
        return [self.repository.get_item(item_id) for item_id in ids]

    def process_beside(self, ids: Sequence[int]) -> threading.Thread:
        thread = threading.Thread(target=self.runtime.process, args=(ids,))
        thread.start()
        return thread

    def objects(self) -> set[str]:
        return {stored.key for stored in self.runtime.pipeline.storage.list("embeddings")}


StartWorker = Callable[..., Worker]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[Worker] = []

    def start(encoder: FakeEncoder | None = None, **settings: Any) -> Worker:
        worker = Worker(tmp_path, encoder or FakeEncoder(), **settings)
        workers.append(worker)
        worker.runtime.start()
        return worker

    yield start
    for worker in workers:
        worker.runtime.stop(0)


class Door:
    """Holds the engine's thread at the first request for which `holds` is true, until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.is_closed = False

    def __call__(self, _: Sequence[EncodeRequest]) -> None:
        if self.is_closed:
            self.reached.set()
            assert self.opened.wait(30)


def photo(folder: Path, number: int) -> Path:
    path = folder / f"{number}.png"
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(path)
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_item_ends_as_an_artefact_that_says_everything(start_worker: StartWorker, media_dir: Path) -> None:
    worker = start_worker()
    ids = worker.submit(media_dir / "cockatoo.mp4", max_pixels=40_000, max_frames=10)

    worker.runtime.process(ids)

    (item,) = worker.items(ids)
    assert item.state is ItemState.SUCCEEDED
    embedding = item.embedding
    assert embedding is not None
    assert set(item.timings) == {"fetch", "lookup", "wait", "decode", "encode", "store", "total"}
    with worker.runtime.pipeline.storage.open(embedding.object_key) as file:
        artefact = read_artefact(file)
    header = artefact.header
    assert (header.kind, header.model, header.dtype) == (MediaKind.VIDEO, "fake", "float32")
    assert (header.grid_thw, header.timestamps) == (embedding.grid_thw, embedding.timestamps)
    assert (header.num_tokens, header.dim) == (embedding.num_tokens, DIM)
    assert header.grid_thw[0] == 5
    assert len(header.frame_indices or ()) == 10
    rows = np.frombuffer(artefact.embeddings, np.float32).reshape(header.num_tokens, DIM)
    assert 0 < rows.std() < 255
    assert worker.outcomes == [
        Succeeded(item=worker.outcomes[0].item, embedding=worker.outcomes[0].embedding, timings=item.timings)
    ]  # type: ignore[union-attr]


def test_two_items_with_the_same_bytes_at_the_same_moment_are_computed_once(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    encoder = FakeEncoder()
    worker = start_worker(encoder)
    encoder.batches.clear()
    one = photo(tmp_path, 1)
    copies = [tmp_path / f"copy{number}.png" for number in range(6)]
    for copy in copies:
        copy.write_bytes(one.read_bytes())

    ids = worker.submit(one, *copies, one)
    worker.runtime.process(ids)

    items = worker.items(ids)
    assert {item.state for item in items} == {ItemState.SUCCEEDED}
    assert len({item.embedding and item.embedding.id for item in items}) == 1
    assert sum(len(batch) for batch in encoder.batches) == 1
    assert len(worker.objects()) == 1


def test_an_animation_as_image_and_as_video_are_two_things(start_worker: StartWorker, media_dir: Path) -> None:
    worker = start_worker()
    gif = media_dir / "newtonscradle.gif"
    ids = [*worker.submit(gif, kind=MediaKind.VIDEO), *worker.submit(gif), *worker.submit(gif, kind=MediaKind.IMAGE)]

    for item_id in ids:
        worker.runtime.process([item_id])

    video, automatic, image = (item.embedding for item in worker.items(ids))
    assert video is not None
    assert image is not None
    assert (video.kind, image.kind) == (MediaKind.VIDEO, MediaKind.IMAGE)
    assert automatic == image


def test_a_worker_that_lost_its_lease_changes_nothing_and_leaves_nothing(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    door = Door()
    worker = start_worker(FakeEncoder(before=door))
    ids = worker.submit(photo(tmp_path, 1))
    door.is_closed = True
    thread = worker.process_beside(ids)
    assert door.reached.wait(30)

    worker.repository.expire_leases()
    worker.repository.reconcile(max_attempts=5, redeliver_after={})
    (other,) = worker.repository.claim(ids, worker="other", lease_seconds=60)
    door.opened.set()
    thread.join(30)

    (item,) = worker.items(ids)
    assert (item.state, item.lease_owner) == (ItemState.RUNNING, other.lease_owner)
    assert worker.outcomes == []
    assert worker.objects() == set()


def test_a_cancelled_job_stops_a_running_item_at_its_next_stage(start_worker: StartWorker, tmp_path: Path) -> None:
    door = Door()
    worker = start_worker(FakeEncoder(before=door), lease_seconds=3)
    ids = worker.submit(photo(tmp_path, 1))
    door.is_closed = True
    thread = worker.process_beside(ids)
    assert door.reached.wait(30)
    (running,) = worker.items(ids)

    worker.repository.cancel_job(running.job_id)
    (lease,) = worker.runtime.leases._held()
    wait_until(lambda: lease._taken is not None)
    door.opened.set()
    thread.join(30)

    assert worker.items(ids)[0].state is ItemState.CANCELLED
    assert worker.objects() == set()


def test_stopping_finishes_what_is_decoded_and_gives_the_rest_back(
    start_worker: StartWorker, tmp_path: Path, media_dir: Path
) -> None:
    door = Door()
    # So little memory that the clip is held up in the middle of its decoding.
    worker = start_worker(FakeEncoder(before=door), max_bytes_in_flight=2**24, patch_budget=2048)
    (decoded,) = worker.submit(photo(tmp_path, 1))
    (undecoded,) = worker.submit(media_dir / "nasa_13013.mp4", max_pixels=900_000)
    door.is_closed = True
    threads = [worker.process_beside([decoded]), worker.process_beside([undecoded])]
    assert door.reached.wait(30)
    wait_until(lambda: any(lease.is_decoded for lease in worker.runtime.leases._held()))
    wait_until(lambda: worker.runtime.budget.taken > 2**20)

    stopper = threading.Thread(target=worker.runtime.stop, args=(30,))
    stopper.start()
    wait_until(lambda: worker.runtime._stopping.is_set())
    door.opened.set()
    for thread in [stopper, *threads]:
        thread.join(60)
        assert not thread.is_alive()

    first, second = (worker.repository.get_item(item_id) for item_id in (decoded, undecoded))
    assert first.state is ItemState.SUCCEEDED
    assert (second.state, second.attempt, second.error_code) == (ItemState.QUEUED, 0, None)
    assert worker.runtime.budget.taken == 0


def test_a_stopped_worker_claims_nothing_more(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker()
    ids = worker.submit(photo(tmp_path, 1))
    worker.runtime.stop(0)
    worker.runtime.process(ids)
    assert worker.items(ids)[0].state is ItemState.QUEUED


def test_stopping_what_never_started_and_stopping_twice_are_no_errors(tmp_path: Path) -> None:
    worker = Worker(tmp_path, FakeEncoder())
    worker.runtime.stop(0)
    worker.runtime.stop(0)


def test_a_file_that_changes_while_it_is_embedded_is_tried_again(start_worker: StartWorker, tmp_path: Path) -> None:
    path = photo(tmp_path, 1)

    def change(batch: Sequence[EncodeRequest]) -> None:
        if path.read_bytes()[-1:] != b"!":
            path.write_bytes(path.read_bytes() + b"!")

    encoder = FakeEncoder()
    worker = start_worker(encoder, retry_base_seconds=0.001)
    encoder._before = change
    ids = worker.submit(path)

    worker.runtime.process(ids)
    (item,) = worker.items(ids)
    assert (item.state, item.error_code) == (ItemState.QUEUED, "source_changed")
    assert worker.objects() == set()

    wait_until(lambda: bool(worker.repository.reconcile(max_attempts=5, redeliver_after={})) and _is_due(worker, ids))
    worker.runtime.process(ids)
    assert worker.items(ids)[0].state is ItemState.SUCCEEDED


def _is_due(worker: Worker, ids: Sequence[int]) -> bool:
    return worker.items(ids)[0].not_before is None


def test_a_mistake_of_ours_fails_one_item_and_says_so(start_worker: StartWorker, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    worker = start_worker(encoder)

    def stumble(*_: object) -> dict[str, Any]:
        raise KeyError("oops")

    encoder.processor_settings = stumble  # type: ignore[method-assign]
    ids = worker.submit(photo(tmp_path, 1))
    worker.runtime.process(ids)
    (item,) = worker.items(ids)
    assert (item.state, item.error_code) == (ItemState.FAILED, "internal_error")
    assert "KeyError" in (item.error_message or "")


KILLER = """
import os, signal, sys
from pathlib import Path
from tests.fake_encoder import FakeEncoder
from worker.embedded import EmbeddedRun, Request
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from glm4v_client.options import EmbedOptions
from glm4v_client.states import MediaKind
from worker.sources import SourceList

def kill(batch):
    if any(bytes(request.patches[:588]) == bytes(588) for request in batch) and armed:
        os.kill(os.getpid(), signal.SIGKILL)

armed = False
folder = OutputFolder(Path(sys.argv[1]))
with folder.lock():
    settings = embedded_settings(folder, model="fake", dtype="float32", decode_processes=2)
    run = EmbeddedRun(settings, load=lambda _: FakeEncoder(before=kill))
    run.start()
    armed = True
    request = Request(
        sources=SourceList(sys.argv[2:]), kind=MediaKind.AUTO, options=EmbedOptions(max_pixels=112 * 112)
    )
    job_id = run.submit(request).job_id
    for progress in run.work(job_id):
        pass
    for item in run.items(job_id):
        print(item.state, item.error_code)
    run.stop()
"""


def test_an_item_that_kills_its_worker_every_time_fails_and_its_neighbours_succeed(tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    Image.new("RGB", (112, 112)).save(black)
    paths = [photo(tmp_path, number) for number in range(20)]
    paths.insert(7, black)
    arguments = [sys.executable, "-c", KILLER, str(tmp_path / "out"), *map(str, paths)]

    runs = [subprocess.run(arguments, capture_output=True, text=True, timeout=120) for _ in range(4)]

    assert [run.returncode for run in runs] == [-signal.SIGKILL] * 3 + [0], "one death for each attempt"
    run = runs[-1]
    lines = run.stdout.split("\n")[:-1]
    assert lines.pop(7) == "failed worker_lost"
    assert set(lines) == {"succeeded None"}
    assert len(lines) == 20
