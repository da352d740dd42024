"""The commands that talk to a service: what they print, how they end, and what they do when told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.artefacts import artefact_of
from tests.fake_server import fake_service
from tests.fake_service import FakeService, Held, Refused
from tests.glm4v_command import Glm4v, wait_until


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def glm4v(tmp_path: Path, service: FakeService) -> Glm4v:
    return Glm4v(tmp_path, GLM4V_URL=service.url)


@pytest.fixture
def held() -> Iterator[Held]:
    """An answer that never comes, as far as the command is concerned."""
    until = threading.Event()
    yield Held(until)
    until.set()


def submit(glm4v: Glm4v, *sources: str) -> str:
    code, out, err = glm4v.run("submit", *sources)
    assert code == 0, err
    return out.strip()


def test_submit_prints_the_job_and_nothing_else(glm4v: Glm4v, service: FakeService) -> None:
    code, out, err = glm4v.run("submit", "s3://m/a", "https://example.org/b")
    assert (code, err) == (0, "")
    assert uuid.UUID(out.strip()) == service.only_job.id


def test_lists_are_read_from_files_and_from_stdin_and_files_are_uploaded(glm4v: Glm4v, service: FakeService) -> None:
    (glm4v.folder / "list").write_text("s3://m/c\n\nlocal.png\n")
    (glm4v.folder / "local.png").write_bytes(b"picture")

    code, _, err = glm4v.run("submit", "s3://m/a", "-", "--from", "list", text_input="s3://m/b\r\n")

    assert code == 0, err
    sources = [item.source for item in service.only_job.items]
    assert sources[:3] == ["s3://m/a", "s3://m/b", "s3://m/c"]
    assert service.uploads == {sources[3]: b"picture"}


def test_a_file_whose_name_is_no_text_is_uploaded(glm4v: Glm4v, service: FakeService) -> None:
    photo = glm4v.folder / os.fsdecode(b"ph\xf6to [red].png")
    photo.write_bytes(b"picture")

    code, _, err = glm4v.run("submit", photo.name)

    assert code == 0, err
    assert list(service.uploads.values()) == [b"picture"]


def test_every_command_prints_records_as_json(glm4v: Glm4v, service: FakeService) -> None:
    (submitted,) = glm4v.json("submit", "s3://m/a", "s3://m/broken")
    job = submitted["id"]
    assert [line["id"] for line in glm4v.json("status")] == [job]
    assert glm4v.json("watch", job)[-1]["counts"]["failed"] == 1
    assert glm4v.json("status", job)[0]["state"] == "finished"
    assert [line["source"] for line in glm4v.json("items", job)] == ["s3://m/a", "s3://m/broken"]
    fetched = sorted(glm4v.json("fetch", job, "--out", "out"), key=lambda line: line["position"])
    assert [line["state"] for line in fetched] == ["written", "without_embedding"]
    assert [line["error_code"] for line in fetched] == [None, "corrupt_media"]
    assert glm4v.json("retry", job) == [{"retried": 1}]
    assert glm4v.json("cancel", job)[0]["id"] == job


def test_tables_hold_no_colour_and_no_blanks_when_they_are_piped(glm4v: Glm4v) -> None:
    job = submit(glm4v, "s3://m/a", "s3://m/[red]broken")
    for command in (["watch", job], ["status"], ["status", job], ["items", job]):
        _, out, _ = glm4v.run(*command)
        assert "\x1b" not in out
        assert out == "".join(f"{line.rstrip()}\n" for line in out.splitlines())
    assert "s3://m/[red]broken" in out
    assert "corrupt_media: The file is damaged" in out


def test_long_lists_are_cut_in_tables_and_whole_as_json(glm4v: Glm4v) -> None:
    job = submit(glm4v, *(f"s3://m/{number}" for number in range(120)))

    _, out, err = glm4v.run("items", job)
    assert out.count("s3://m/") == 50
    assert "only the first 50" in err
    assert glm4v.run("items", job, "--limit", "120")[1].count("s3://m/") == 120
    assert len(glm4v.json("items", job)) == 120
    assert len(glm4v.json("items", job, "--limit", "3")) == 3


@pytest.mark.parametrize(("sources", "codes"), [(["s3://m/a"], (0, 0, 0)), (["s3://m/a", "s3://m/broken"], (1, 1, 1))])
def test_exit_codes_say_whether_items_failed(glm4v: Glm4v, sources: list[str], codes: tuple[int, ...]) -> None:
    code, out, err = glm4v.run("submit", *sources, "--watch")
    job = out.split()[0]
    assert (code, glm4v.run("status", job)[0], glm4v.run("fetch", job, "--out", "out")[0]) == codes, err


def test_what_cannot_begin_is_said_in_a_sentence(glm4v: Glm4v, service: FakeService) -> None:
    (glm4v.folder / "empty").touch()
    (glm4v.folder / "folder").mkdir()
    nowhere = str(uuid.uuid4())
    for arguments, words in [
        (["submit"], "name files or URLs"),
        (["submit", "--from", "empty"], "the list names nothing"),
        (["submit", "missing.png"], "missing.png: No such file"),
        (["submit", "folder"], "folder: Is a directory"),
        (["submit", "s3://m/a", "--fps", "-1"], "fps"),
        (["submit", "s3://m/a", "--label", "may"], "name=value"),
        (["submit", "s3://m/a", "--webhook", "nowhere"], "webhook"),
        (["status", nowhere], "job_not_found"),
        (["status", nowhere, "--state", "running"], "leave them or the job out"),
        (["watch", "seven"], "'seven' is no job's id: `glm4v status` lists them"),
        (["fetch", nowhere], "--out"),
        (["status", "--url", "localhost:1"], "http://"),
    ]:
        code, out, err = glm4v.run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert words in " ".join(err.replace("│", " ").split()), arguments
        assert "Traceback" not in err
    assert service.jobs == {}


def test_a_wrong_url_is_said_before_anything_is_read(glm4v: Glm4v) -> None:
    process = glm4v.start("submit", "--url", "http://127.0.0.1:1", "-", stdin=subprocess.PIPE)
    # Its list never ends.
    assert process.wait(60) == 2
    _, err = process.communicate()
    assert "http://127.0.0.1:1 cannot be reached" in err
    assert "`glm4v serve` starts one" in err


def test_a_wrong_key_and_the_right_one(glm4v: Glm4v, service: FakeService) -> None:
    service.key = "right"
    code, out, err = glm4v.run("status", "--api-key", "wrong")
    assert (code, out) == (2, "")
    assert "--api-key or GLM4V_API_KEY" in err
    assert glm4v.run("status", "--api-key", "right")[0] == 0
    glm4v.environment["GLM4V_API_KEY"] = "right"
    assert glm4v.run("status")[0] == 0


def test_an_error_of_the_service_names_its_request(glm4v: Glm4v, service: FakeService) -> None:
    service.fail("GET /v1/jobs", *[Refused(500, {"x-request-id": "r-17"})] * 5)
    code, _, err = glm4v.run("status")
    assert code == 2
    assert "request r-17" in err


def test_ctrl_c_ends_the_watching_and_not_the_job(glm4v: Glm4v, service: FakeService, held: Held) -> None:
    service.pace = 1
    job = submit(glm4v, "s3://m/a", "s3://m/b")
    service.fail("/events", held)
    watch = glm4v.start("watch", job)
    wait_until(lambda: service.requested("/events"))

    assert interrupted(watch) == f"the job goes on: `glm4v watch {job}` shows it, `glm4v cancel {job}` ends it\n"
    assert not service.only_job.is_cancelled


def test_ctrl_c_in_a_submission_cancels_what_was_sent(glm4v: Glm4v, service: FakeService) -> None:
    process = glm4v.start("submit", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("".join(f"s3://m/{number}\n" for number in range(3000)))
    process.stdin.flush()
    wait_until(lambda: service.requested("POST .*/items$"))

    assert "was cancelled" in interrupted(process)
    assert service.only_job.is_cancelled


def test_ctrl_c_in_a_named_submission_keeps_it_to_be_gone_on_with(glm4v: Glm4v, service: FakeService) -> None:
    sources = "".join(f"s3://m/{number}\n" for number in range(3000))
    process = glm4v.start("submit", "-", "--idempotency-key", "mine", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(sources)
    process.stdin.flush()
    wait_until(lambda: service.requested("POST .*/items$"))
    assert "is still open" in interrupted(process)

    code, out, err = glm4v.run("submit", "-", "--idempotency-key", "mine", text_input=sources)

    assert code == 0, err
    assert uuid.UUID(out.strip()) == service.only_job.id
    assert [item.source for item in service.only_job.items] == sources.split()


def test_an_interrupted_fetch_leaves_whole_files_and_goes_on(glm4v: Glm4v, service: FakeService, held: Held) -> None:
    sources = [f"s3://m/{number}" for number in range(8)]
    job = submit(glm4v, *sources)
    glm4v.run("watch", job)
    service.fail("/v1/items/5/embedding", held)
    fetch = glm4v.start("fetch", job, "--out", "out", "--concurrency", "1")
    wait_until(lambda: service.requested("/v1/items/5/embedding"))

    assert "the same command goes on" in interrupted(fetch, then=held.until.set)
    there = {path.name for path in (glm4v.folder / "out").iterdir()} - {".lock"}
    assert (
        {f"{number:08}.safetensors" for number in range(5)}
        <= there
        < {f"{number:08}.safetensors" for number in range(8)}
    )

    code, out, err = glm4v.run("fetch", job, "--out", "out")
    assert code == 0, err
    assert f"{len(there)} there before" in out
    for number, source in enumerate(sources):
        assert (glm4v.folder / "out" / f"{number:08}.safetensors").read_bytes() == artefact_of(source)


def test_when_the_reader_of_a_list_leaves_it_ends_quietly(glm4v: Glm4v) -> None:
    job = submit(glm4v, *(f"s3://m/{number}" for number in range(2000)))
    process = glm4v.start("items", "--json", job)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["position"] == 0
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(60) == 128 + signal.SIGPIPE


def test_a_shell_completes_commands_states_codes_and_jobs(glm4v: Glm4v, service: FakeService) -> None:
    job = submit(glm4v, "s3://m/a")

    assert {"submit", "status", "serve", "weights"} <= completions(glm4v, "glm4v ")
    assert completions(glm4v, "glm4v items --state f") == {"failed"}
    assert completions(glm4v, "glm4v retry --code no") == {"no_frames", "no_video_stream", "not_found"}
    assert completions(glm4v, "glm4v watch ") == {job}
    service.key = "another"
    assert completions(glm4v, "glm4v watch ") == set()


def test_the_commands_need_neither_database_nor_torch(glm4v: Glm4v) -> None:
    program = """
import sys
from worker.cli import app
allowed = {"httpx", "pydantic", "rich", "typer"}
for arguments in (["submit", "s3://m/a", "--watch"], ["status"], ["--help"]):
    app(arguments, standalone_mode=False)
heavy = {"torch", "sqlalchemy", "celery", "numpy", "fastapi", "pydantic_settings", "safetensors", "huggingface_hub"}
print(sorted(heavy & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], env=glm4v.environment, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def completions(glm4v: Glm4v, line: str) -> set[str]:
    """What bash offers at the end of a line."""
    words = line.split(" ")
    asked = {"_GLM4V_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    bash = Glm4v(glm4v.folder)
    bash.environment = {**glm4v.environment, **asked}
    return set(bash.run()[1].split())


def interrupted(process: subprocess.Popen[str], *, then: Callable[[], object] = lambda: None) -> str:
    """Ctrl-C. Gives what the command says to that."""
    process.send_signal(signal.SIGINT)
    then()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    return err
