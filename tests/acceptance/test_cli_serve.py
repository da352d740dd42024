"""`glm4v serve` and the commands that talk to it: real processes, real signals, no server besides."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.glm4v_command import GLM4V, Glm4v, ServeProcess, photos
from worker.database import migrate


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """Shared by the tests that leave it as it is: loading a model takes seconds."""
    service = ServeProcess(Glm4v(tmp_path_factory.mktemp("service")), "--out", "out")
    yield service
    service.close()


@pytest.fixture
def glm4v(tmp_path: Path, service: ServeProcess) -> Glm4v:
    return Glm4v(tmp_path, GLM4V_URL=service.url)


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[ServeProcess]:
    """For tests that end it."""
    service = ServeProcess(Glm4v(tmp_path), "--out", "out")
    yield service
    service.close()


def test_submitted_watched_and_fetched_in_one_line_of_shell(glm4v: Glm4v) -> None:
    photos(glm4v.folder, 3)
    line = 'job=$(glm4v submit photo-*.png) && glm4v watch "$job" && glm4v fetch "$job" --out tokens'
    environment = {**glm4v.environment, "PATH": f"{GLM4V.parent}:{glm4v.environment['PATH']}"}

    shell = subprocess.run(["bash", "-c", line], cwd=glm4v.folder, env=environment, capture_output=True, text=True)

    assert shell.returncode == 0, shell.stderr
    assert "3 embedded, 0 failed: 48 tokens" in shell.stdout
    assert "3 written" in shell.stdout
    for number in range(3):
        with safe_open(glm4v.folder / "tokens" / f"{number:08}.safetensors", framework="np") as artefact:
            assert artefact.get_slice("embeddings").get_shape() == [16, 256]


def test_a_broken_file_among_good_ones_fails_alone(glm4v: Glm4v) -> None:
    good = photos(glm4v.folder, 2)
    broken = glm4v.folder / "broken.jpg"
    broken.write_text("this is a text\n" * 50)

    code, out, err = glm4v.run("submit", good[0], broken, good[1], "--watch")

    assert code == 1, err
    job, *report = out.splitlines()
    assert "2 embedded, 1 failed" in report[0]
    assert f"unsupported_media 1: `glm4v items {job} --state failed`" in report[1]
    (item,) = glm4v.json("items", job, "--state", "failed")
    assert (item["position"], item["error"]["code"]) == (1, "unsupported_media")
    assert [item["position"] for item in glm4v.json("items", job, "--state", "succeeded")] == [0, 2]
    assert glm4v.run("status", job)[0] == 1

    code, out, _ = glm4v.run("fetch", job, "--out", "tokens")
    assert code == 1
    assert "2 written" in out
    assert "1 without tokens: unsupported_media 1" in out


def test_options_labels_and_priority_arrive(glm4v: Glm4v) -> None:
    (photo,) = photos(glm4v.folder, 1)

    (job,) = glm4v.json(
        "submit", photo, "--max-pixels", "6400", "--priority", "7", "--label", "shoot=may", "--kind", "image"
    )

    assert (job["priority"], job["labels"]) == (7, {"shoot": "may"})
    assert job["options"]["max_pixels"] == 6400
    assert glm4v.run("watch", job["id"])[0] == 0
    (item,) = glm4v.json("items", job["id"])
    assert (item["kind"], item["embedding"]["grid_thw"]) == ("image", [1, 4, 4])
    assert [found["id"] for found in glm4v.json("status", "--label", "shoot=may", "--state", "finished")] == [job["id"]]
    assert glm4v.json("status", "--label", "shoot=june") == []


def test_the_same_submission_by_its_own_name_is_the_same_job(glm4v: Glm4v) -> None:
    (photo,) = photos(glm4v.folder, 1)
    first, second = (glm4v.json("submit", photo, "--idempotency-key", str(glm4v.folder))[0] for _ in range(2))
    assert first["id"] == second["id"]


def test_a_second_one_is_kept_out_of_the_folder_and_off_the_port(service: ServeProcess, tmp_path: Path) -> None:
    commands = Glm4v(tmp_path)

    code, out, err = commands.run("serve", "--port", "0", "--out", service.log.parent / "out")
    assert (code, out) == (2, "")
    assert f"process {service.pid} is at work" in err

    code, out, err = commands.run("serve", "--port", service.url.rpartition(":")[2])
    assert (code, out) == (2, "")
    assert "choose another --port" in err
    assert "Traceback" not in err


def test_strangers_may_not_use_it_without_a_key(tmp_path: Path) -> None:
    code, out, err = Glm4v(tmp_path).run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (code, out) == (2, "")
    assert "GLM4V_API_KEYS" in err
    assert not (tmp_path / "glm4v-output").exists()


def test_with_a_database_set_it_is_the_api_of_a_service_whose_workers_are_elsewhere(tmp_path: Path) -> None:
    settings = {
        "GLM4V_DATABASE_URL": f"sqlite:///{tmp_path}/rows.sqlite3",
        "GLM4V_STORE_URL": f"file://{tmp_path}/objects",
    }
    migrate(settings["GLM4V_DATABASE_URL"])
    commands = Glm4v(tmp_path, **settings)
    service = ServeProcess(commands)
    try:
        glm4v = Glm4v(tmp_path, GLM4V_URL=service.url)
        (job,) = glm4v.json("submit", "s3://media/cat.jpg")
        assert glm4v.json("status", job["id"])[0]["counts"]["queued"] == 1
        assert service.stop() == 128 + signal.SIGTERM
    finally:
        service.close()
    assert not (tmp_path / "glm4v-output").exists()

    code, _, err = commands.run("serve", "--out", "out")
    assert code == 2
    assert "has no --out" in err


def test_killed_in_the_middle_and_started_again_it_finishes_under_the_same_watch(own_service: ServeProcess) -> None:
    folder = own_service.log.parent
    glm4v = Glm4v(folder, GLM4V_URL=own_service.url)
    (job,) = glm4v.json("submit", *photos(folder / "photos", 60, edge=448))
    watch = watch_until_some_succeeded(glm4v, job["id"])

    own_service.kill()
    own_service.restart()

    out, err = watch.communicate(timeout=300)
    assert watch.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["counts"]["succeeded"] == 60
    code, out, err = glm4v.run("fetch", job["id"], "--out", "tokens")
    assert code == 0, err
    assert len(list((folder / "tokens").glob("*.safetensors"))) == 60
    assert own_service.stop(signal.SIGTERM) == 128 + signal.SIGTERM


def test_after_ctrl_c_nothing_is_broken_and_it_goes_on(own_service: ServeProcess) -> None:
    folder = own_service.log.parent
    glm4v = Glm4v(folder, GLM4V_URL=own_service.url)
    (job,) = glm4v.json("submit", *photos(folder / "photos", 40, edge=448))
    watch = watch_until_some_succeeded(glm4v, job["id"])

    assert own_service.stop(signal.SIGINT) == 128 + signal.SIGINT

    log = own_service.log.read_text()
    assert "the same command goes on" in log
    assert "Traceback" not in log
    assert list((folder / "out" / ".incoming").iterdir()) == []
    code, _, err = Glm4v(folder).run("audit", "--out", "out", "--digests")
    assert code == 0, err
    own_service.restart()
    watch.communicate(timeout=300)
    assert watch.returncode == 0


def watch_until_some_succeeded(glm4v: Glm4v, job_id: str) -> subprocess.Popen[str]:
    watch = glm4v.start("watch", "--json", job_id)
    assert watch.stdout is not None
    for line in watch.stdout:
        if json.loads(line)["counts"]["succeeded"]:
            break
    return watch
