"""`celery -A worker worker --pool=solo` as an operator meets it: real processes on real servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from glm4v_client.states import ItemState, JobState
from tests.cluster import Cluster
from tests.conftest import REPOSITORY
from tests.servers import free_port
from worker.celery import EMBED, queue_name


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """As many different pictures as a worker of these tests holds, and as many again."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(32):
        Image.new("RGB", (56, 56), (number * 5, 80, 120)).save(folder / f"{number:02}.png")
    return [path.as_uri() for path in sorted(folder.iterdir())]


@pytest.fixture
def cluster(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path,
        GLM4V_DATABASE_URL=database_url,
        GLM4V_BROKER_URL=broker_url,
        GLM4V_STORE_URL=f"file://{tmp_path}/objects",
        GLM4V_FILE_ROOTS=str(tmp_path),
    )
    yield cluster
    cluster.close()


def test_the_command_of_the_readme_embeds_with_a_real_model(cluster: Cluster, pictures: list[str]) -> None:
    cluster.model = "random:tiny"
    (worker,) = cluster.start_workers(1, app="worker", GLM4V_MODEL="random:tiny")
    job = cluster.submit(pictures[:4])
    cluster.wait_until_done(job)
    assert {item.state for item in cluster.items(job)} == {ItemState.SUCCEEDED}
    assert worker.terminate(seconds=30) == 0


def test_a_worker_under_full_load_answers_the_health_check(cluster: Cluster, pictures: list[str]) -> None:
    cluster.start_workers(1, GLM4V_TEST_HANGS="1")
    job = cluster.submit(pictures)
    cluster.wait(lambda: cluster.progress(job).running >= cluster.settings.item_threads, "its threads are all busy")
    assert cluster.app.control.inspect(timeout=10, limit=1).ping() == {"worker0@test": {"ok": "pong"}}


def test_messages_of_one_item_each_fill_a_worker_too(cluster: Cluster, pictures: list[str]) -> None:
    cluster.start_workers(1, GLM4V_TEST_HANGS="1")
    jobs = [cluster.submit([picture]) for picture in pictures]
    cluster.wait(
        lambda: sum(cluster.progress(job).running for job in jobs) == cluster.settings.item_threads,
        "as many run as there are threads",
    )


def test_the_metrics_page_shows_what_was_done(cluster: Cluster, pictures: list[str]) -> None:
    port = free_port()
    cluster.start_workers(1, GLM4V_METRICS_PORT=str(port))
    job = cluster.submit([*pictures, (REPOSITORY / "nothing.png").as_uri()])
    cluster.wait_until_done(job)
    metrics = read_metrics(port)
    assert metrics['glm4v_items_total{code="",outcome="succeeded"}'] == len(pictures)
    assert metrics['glm4v_items_total{code="forbidden_path",outcome="failed"}'] == 1
    assert metrics["glm4v_item_tokens_total"] == cluster.progress(job).tokens
    assert metrics["glm4v_tokens_total"] >= cluster.progress(job).tokens
    assert metrics['glm4v_stage_seconds_count{stage="fetch"}'] >= len(pictures)
    assert 0 < metrics["glm4v_patches_total"] <= metrics["glm4v_patch_room_total"]
    assert metrics["glm4v_items_held"] == 0


def test_a_worker_says_that_it_lives_until_it_stops_in_order(cluster: Cluster, pictures: list[str]) -> None:
    stopped, killed = cluster.start_workers(2, GLM4V_ITEM_THREADS="4")
    cluster.wait(lambda: len(cluster.repository.workers()) == 2, "both are known")
    job = cluster.submit(pictures)
    cluster.wait_until_done(job)
    cluster.wait(
        lambda: sum(worker.finished for worker in cluster.repository.workers()) == len(pictures),
        "their rows say what they have done",
    )
    workers = cluster.repository.workers()
    assert {(one.model, one.device, one.dtype, one.is_alive) for one in workers} == {
        ("simulated", "cpu", "float32", True)
    }
    assert sum(worker.tokens for worker in workers) == cluster.progress(job).tokens
    killed.kill()
    assert stopped.terminate(seconds=30) == 0
    assert [worker.name.endswith(f":{killed.pid}") for worker in cluster.repository.workers()] == [True]


def test_what_nothing_refers_to_any_more_goes_by_itself(cluster: Cluster, pictures: list[str]) -> None:
    port = free_port()
    cluster.start_workers(
        1, GLM4V_RETENTION_SECONDS="0", GLM4V_RETENTION_INTERVAL_SECONDS="1", GLM4V_METRICS_PORT=str(port)
    )
    kept, deleted = cluster.submit(pictures[:3]), cluster.submit(pictures)
    cluster.wait_until_done(kept)
    cluster.wait_until_done(deleted)
    cluster.repository.delete_job(deleted)
    cluster.wait(lambda: len(list(cluster.storage().list("embeddings"))) == 3, "the others' objects are gone")
    cluster.wait(
        lambda: read_metrics(port)["glm4v_embeddings_deleted_total"] == len(pictures) - 3, "the metric says so"
    )
    assert {item.state for item in cluster.items(kept)} == {ItemState.SUCCEEDED}


def read_metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_json_logs_are_one_object_a_line(cluster: Cluster, tmp_path: Path) -> None:
    (worker,) = cluster.start_workers(1, GLM4V_LOG_FORMAT="json")
    job = cluster.submit([(tmp_path / "missing.png").as_uri()])
    cluster.wait_until_done(job)
    worker.terminate(seconds=30)
    events = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    (about_it,) = [event for event in events if event["message"].startswith("not_found")]
    assert (about_it["job"], about_it["attempt"]) == (str(job), 1)


def test_a_job_that_cannot_wait_overtakes(cluster: Cluster, pictures: list[str]) -> None:
    cluster.start_workers(1, GLM4V_TEST_ITEM_SECONDS="0.1", GLM4V_ITEM_THREADS="4")
    patient = cluster.submit(pictures[:28], priority=1)
    hasty = cluster.submit(pictures[28:], priority=9)
    cluster.wait_until_done(hasty)
    assert cluster.progress(patient).done < 24
    cluster.wait_until_done(patient)


def test_a_cancelled_job_stops(cluster: Cluster, pictures: list[str]) -> None:
    cluster.start_workers(1, GLM4V_TEST_ITEM_SECONDS="0.5")
    job = cluster.submit(pictures)
    cluster.wait_until_begun(job, 1)
    cluster.repository.cancel_job(job)
    cluster.wait_until_done(job)
    progress = cluster.progress(job)
    assert progress.state is JobState.CANCELLED
    assert (progress.queued, progress.running) == (0, 0)
    # Queued ones at once, running ones at their next stage: few of the sixteen that ran were finished.
    assert progress.cancelled >= len(pictures) // 2


def test_a_message_that_makes_no_sense_does_no_harm(cluster: Cluster, pictures: list[str]) -> None:
    cluster.start_workers(1)
    for args in ([], ["nonsense"], [[1.5, None]], [[10**30]]):
        cluster.app.send_task(EMBED, args=args, queue=queue_name(cluster.model))
    job = cluster.submit(pictures)
    cluster.wait_until_done(job)
    assert cluster.progress(job).succeeded == len(pictures)


def test_a_worker_whose_device_hangs_ends_itself(cluster: Cluster, pictures: list[str]) -> None:
    (worker,) = cluster.start_workers(1, GLM4V_TEST_HANGS="1", GLM4V_STALL_SECONDS="3")
    cluster.submit(pictures)
    cluster.wait(lambda: worker.exit_code is not None, "the watchdog ends the worker")
    assert worker.exit_code == 1
    log = worker.log.read_text()
    assert "work waits and none was finished" in log
    assert "Thread 0x" in log


@pytest.mark.parametrize(
    ("settings", "arguments", "said"),
    [
        pytest.param({"GLM4V_BROKER_URL": ""}, [], "set GLM4V_BROKER_URL", id="no broker"),
        pytest.param({"GLM4V_PATCH_BUDGET": "many"}, [], "GLM4V_PATCH_BUDGET", id="a value that is none"),
        pytest.param({"GLM4V_PATCH_BUGDET": "1"}, [], "did you mean GLM4V_PATCH_BUDGET", id="a misspelt name"),
        pytest.param({"GLM4V_DATABASE_URL": "sqlite:///{folder}/new.db"}, [], "alembic upgrade head", id="no tables"),
        pytest.param(
            {"GLM4V_STORE_URL": "s3://B?endpoint=http://127.0.0.1:1"}, [], "GLM4V_STORE_URL", id="a wrong bucket"
        ),
        pytest.param(
            {"GLM4V_STORE_URL": "s3://bucket?endpoint=http://127.0.0.1:1"}, [], "the store did", id="no store"
        ),
        pytest.param({}, ["--pool=threads"], "--pool=solo", id="another pool"),
    ],
)
def test_a_worker_that_cannot_work_says_why_and_ends(
    cluster: Cluster, tmp_path: Path, settings: dict[str, str], arguments: list[str], said: str
) -> None:
    environment = {name: value.format(folder=tmp_path) for name, value in settings.items()}
    worker = cluster.start_worker(environment, arguments=arguments)
    cluster.wait(lambda: worker.exit_code is not None, "the worker ends")
    assert worker.exit_code == 1
    log = worker.log.read_text()
    assert said in log
    assert "Traceback" not in log
