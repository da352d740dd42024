"""The real command in a process of its own, on real files, with real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from tests.glm4v_command import GLM4V, photos, wait_until
from tests.web_server import body, redirect, web_server

KEYS = [
    "source", "kind", "state", "error_code", "error_message",
    "grid_thw", "timestamps", "tokens", "artefact", "seconds",
]  # fmt: skip


class Command:
    """`glm4v embed` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GLM4V, "embed", "--out", self.out, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str | Path, text_input: str | None = None) -> tuple[int, str, str]:
        stdin = subprocess.PIPE if text_input is not None else subprocess.DEVNULL
        process = self.start(*arguments, stdin=stdin)
        out, err = process.communicate(text_input, timeout=300)
        return process.returncode, out, err

    def json(self, *arguments: str | Path, text_input: str | None = None) -> tuple[int, list[dict[str, Any]], str]:
        code, out, err = self.run("--json", *arguments, text_input=text_input)
        return code, [json.loads(line) for line in out.splitlines()], err

    def artefacts(self) -> dict[Path, int]:
        """Every file below the store, and when it was written."""
        return {path: path.stat().st_mtime_ns for path in (self.out / "embeddings").rglob("*") if path.is_file()}

    def strays(self) -> list[Path]:
        return list((self.out / ".incoming").iterdir())


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def wait_for_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def test_all_nine_real_files_become_tokens(command: Command, media_dir: Path) -> None:
    files = sorted(path for path in media_dir.iterdir() if path.suffix != ".md")
    assert len(files) == 9

    code, items, err = command.json("--max-pixels", "60000", "--max-frames", "8", *files)

    assert code == 0, err
    assert [item["source"] for item in items] == [str(path) for path in files]
    for item in items:
        assert list(item) == KEYS
        assert (item["state"], item["error_code"]) == ("succeeded", None)
        t, h, w = item["grid_thw"]
        assert item["tokens"] == t * h * w // 4
        assert item["kind"] == ("video" if item["source"].endswith(".mp4") else "image")
        with safe_open(item["artefact"], framework="np") as artefact:
            assert artefact.get_tensor("grid_thw").tolist() == [[t, h, w]]
            if item["kind"] == "video":
                assert artefact.get_tensor("timestamps").tolist() == item["timestamps"]
                assert len(item["timestamps"]) == t <= 4
            assert artefact.get_slice("embeddings").get_shape() == [item["tokens"], 256]
    assert "random" in err
    assert "--model zai-org/GLM-4.1V-9B-Thinking" in err


def test_each_bad_reference_has_its_own_code_and_every_other_item_succeeds(command: Command, media_dir: Path) -> None:
    good = command.folder / "good.png"
    shutil.copy(media_dir / "chelsea.png", good)
    (command.folder / "text.jpg").write_text("this is a text\n" * 50)
    (command.folder / "empty.jpg").touch()
    (command.folder / "folder").mkdir()
    (command.folder / "cut.jpg").write_bytes((media_dir / "rocket.jpg").read_bytes()[:20_000])
    whole = (media_dir / "cockatoo.mp4").read_bytes()
    (command.folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}/photo.png"
        command.environment["GLM4V_ALLOW_PRIVATE_ADDRESSES"] = "true"
        sources = [
            "good.png",
            "missing.png",
            "text.jpg",
            "cut.jpg",
            "cut.mp4",
            "empty.jpg",
            "folder",
            closed,
            "ftp://a/b",
        ]
        code, items, err = command.json("--max-pixels", "20000", *sources, good)

    assert code == 1, err
    assert [item["source"] for item in items] == [*sources, str(good)]
    assert [item["error_code"] for item in items] == [
        None,
        "not_found",
        "unsupported_media",
        "corrupt_media",
        "corrupt_media",
        "empty_file",
        "is_a_directory",
        "host_unreachable",
        "unsupported_source",
        None,
    ]
    for item in items[1:-1]:
        assert item["state"] == "failed"
        assert len(item["error_message"]) > 10
        assert "\n" not in item["error_message"]
        assert item["artefact"] is None
    assert "folder/*" in items[6]["error_message"]
    assert "Traceback" not in err


def test_a_private_address_is_refused_also_behind_a_redirect(command: Command) -> None:
    with web_server({"/a": redirect("/b"), "/b": body(b"x")}) as address:
        code, items, _ = command.json(f"{address}/a")
    assert (code, items[0]["error_code"]) == (1, "forbidden_address")


def test_a_url_is_embedded_like_the_file_behind_it(command: Command, media_dir: Path) -> None:
    photo = media_dir / "chelsea.png"
    command.environment["GLM4V_ALLOW_PRIVATE_ADDRESSES"] = "true"
    with web_server({"/photo": redirect("/real"), "/real": body(photo.read_bytes())}) as address:
        code, items, err = command.json("--max-pixels", "20000", f"{address}/photo", photo)
    assert code == 0, err
    assert items[0]["artefact"] == items[1]["artefact"]


def test_a_copy_is_not_computed_again_and_neither_is_a_second_run(command: Command) -> None:
    (first, other) = photos(command.folder / "photos", 2)
    copy = shutil.copy(first, command.folder / "copy of it.png")

    code, items, err = command.json(first, copy, first, other)

    assert code == 0, err
    assert [item["source"] for item in items] == [str(first), str(copy), str(first), str(other)]
    assert len({item["artefact"] for item in items[:3]}) == 1
    stored = command.artefacts()
    assert len(stored) == 2

    code, again, err = command.json(first, copy, first, other)
    assert code == 0, err
    assert [item["artefact"] for item in again] == [item["artefact"] for item in items]
    assert command.artefacts() == stored

    code, bounded, err = command.json("--max-pixels", "6400", first)
    assert code == 0, err
    assert bounded[0]["artefact"] != items[0]["artefact"], "other options give other tokens"


def test_lists_come_from_a_file_and_from_stdin_in_order(command: Command) -> None:
    paths = photos(command.folder, 4)
    (command.folder / "list").write_text(f"{paths[2].name}\n\n{paths[3].name}\n")

    code, items, err = command.json(paths[0], "-", "--from", "list", text_input=f"{paths[1].name}\r\n")

    assert code == 0, err
    assert [Path(item["source"]).name for item in items] == [path.name for path in paths]


def test_a_file_name_that_is_no_text_is_embedded(command: Command) -> None:
    (photo,) = photos(command.folder, 1)
    strange = os.fsdecode(os.fsencode(command.folder) + b"/ph\xf6to\n[red].png")
    photo.rename(strange)

    code, items, err = command.json(strange)

    assert code == 0, err
    assert items[0]["source"].startswith("file:///")


def test_killed_in_the_middle_and_started_again_it_goes_on(command: Command) -> None:
    paths = photos(command.folder / "photos", 60, edge=448)
    process = command.start("--json", *paths)
    done = [json.loads(line) for line in wait_for_lines(process, 8)]
    process.kill()
    process.communicate()
    finished = {Path(item["artefact"]) for item in done}
    before = command.artefacts()
    assert finished <= set(before)

    code, items, err = command.json(*paths)

    assert code == 0, err
    assert "going on" in err
    assert [item["source"] for item in items] == [str(path) for path in paths]
    assert [item["artefact"] for item in items[: len(done)]] == [item["artefact"] for item in done]
    after = command.artefacts()
    assert all(after[path] == before[path] for path in finished), "what was finished is not repeated"
    assert set(after) == {Path(item["artefact"]) for item in items}, "no object that no row names"
    assert command.strays() == []
    for item in items:
        with safe_open(item["artefact"], framework="np") as artefact:
            assert artefact.get_slice("embeddings").get_shape() == [item["tokens"], 256]


def processes_of(group: int) -> set[int]:
    """Ids of the processes of a group that are not dead."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.add(int(stat.parent.name))
    return found


def test_killed_it_leaves_no_process_behind(command: Command, media_dir: Path) -> None:
    process = command.start("--json", *photos(command.folder, 1), media_dir / "nasa_13013.mp4", start_new_session=True)
    wait_for_lines(process, 1)
    assert len(processes_of(process.pid)) > 1
    process.kill()
    process.communicate()
    wait_until(lambda: processes_of(process.pid) == set())


@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_interrupted_it_stops_in_order_and_says_how_to_go_on(
    command: Command, number: signal.Signals, to_group: bool
) -> None:
    paths = photos(command.folder / "photos", 60, edge=448)
    process = command.start("--json", *paths, start_new_session=True)
    wait_for_lines(process, 2)
    # Ctrl-C reaches every process of the terminal, the decoders among them.
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + number, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert command.strays() == []
    wait_until(lambda: processes_of(process.pid) == set())
    stored = command.artefacts()

    code, items, err = command.json(paths[-1])
    assert code == 0, err
    assert "another command" in err

    code, items, err = command.json(*paths)

    assert code == 0, err
    assert len(items) == 60
    assert all(command.artefacts()[path] == written for path, written in stored.items()), "nothing is repeated"


def test_a_second_process_is_kept_out_of_the_folder(command: Command) -> None:
    process = command.start("--json", "-", stdin=subprocess.PIPE)
    wait_until(lambda: (command.out / ".lock").exists() and (command.out / ".lock").read_text() != "")

    code, out, err = command.run("photo.png")

    assert (code, out) == (2, "")
    assert str(process.pid) in err
    assert "--out" in err
    process.kill()
    process.communicate()


def test_when_the_reader_of_its_output_leaves_it_stops_quietly(command: Command) -> None:
    paths = photos(command.folder / "photos", 60, edge=448)
    process = command.start("--json", *paths)
    wait_for_lines(process, 1)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "BrokenPipe" not in err

    code, items, err = command.json(*paths)
    assert (code, len(items)) == (0, 60), err


def test_without_json_a_table_sums_it_up(command: Command) -> None:
    (photo,) = photos(command.folder, 1)

    code, out, err = command.run(photo.name, "missing.png")

    assert code == 1
    for words in ("photo-000.png", "1 x 8 x 8", "16", "not_found", "check the path", "1 embedded, 1 failed"):
        assert words in out
    assert out.count("random") == 0
    assert err.count("these weights are random") == 2


def test_pictures_are_drawn_beside_the_tokens(command: Command, media_dir: Path) -> None:
    code, _, err = command.run("--picture", "--max-pixels", "20000", media_dir / "chelsea.png", "missing.png")
    assert code == 1
    picture = command.out / "pictures" / "0001-chelsea.png"
    assert str(picture) in err
    with Image.open(picture) as drawn:
        assert drawn.width > 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name files or URLs"),
        (["--fps", "-1", "a.png"], "fps"),
        (["--min-pixels", "5000", "--max-pixels", "4000", "a.png"], "min_pixels (5000) is above max_pixels (4000)"),
        (["--dtype", "int8", "a.png"], "int8"),
        (["--device", "cuda:99", "a.png"], "cuda:99"),
        (["--model", "no/such/folder", "a.png"], "no/such/folder"),
        (["--from", "no-such-list"], "no-such-list"),
        (["--out", "/proc/nowhere", "a.png"], "/proc/nowhere"),
    ],
)
def test_what_it_cannot_begin_with_is_said_in_a_sentence(command: Command, arguments: list[str], words: str) -> None:
    code, out, err = command.run(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_an_unknown_setting_is_named(command: Command) -> None:
    command.environment["GLM4V_PATCH_BUDGETT"] = "7"
    code, _, err = command.run("a.png")
    assert code == 2
    assert "GLM4V_PATCH_BUDGETT" in err


@pytest.fixture
def imported() -> Callable[[str], set[str]]:
    def modules(program: str) -> set[str]:
        listing = f"import sys\n{program}\nprint(*sys.modules)"
        return set(subprocess.check_output([sys.executable, "-c", listing], text=True).split())

    return modules


def test_help_loads_neither_torch_nor_a_database(imported: Callable[[str], set[str]]) -> None:
    modules = imported("import worker.cli")
    assert modules & {"torch", "sqlalchemy", "celery", "numpy", "av", "PIL", "httpx"} == set()
