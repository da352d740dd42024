"""`glm4v weights` as a user runs it, against a hub on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.checkpoints import SHARDS, assert_same_tower, write_checkpoint
from tests.hub_server import HubServer

GLM4V = Path(sys.executable).parent / "glm4v"
NAME = "some-lab/GLM-9V"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def environment(hub: HubServer, home: Path) -> dict[str, str]:
    return os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}


def glm4v(*arguments: str | Path, hub: HubServer, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GLM4V, *map(str, arguments)],
        env=environment(hub, home),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_model_is_fetched_once_and_embeds_by_its_name_without_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with HubServer(NAME, checkpoint) as hub:
        assert glm4v("weights", "path", NAME, hub=hub, home=home).returncode == 1
        fetched = glm4v("weights", "fetch", NAME, hub=hub, home=home)
    directory = Path(fetched.stdout.strip())
    assert directory.is_relative_to(home), fetched.stderr
    assert_same_tower(directory, checkpoint)

    assert glm4v("weights", "path", NAME, hub=hub, home=home).stdout == fetched.stdout
    assert f"{NAME} main" in " ".join(glm4v("weights", "list", hub=hub, home=home).stdout.split())
    Image.new("RGB", (56, 56), "teal").save(tmp_path / "teal.png")
    embedded = glm4v("embed", "--model", NAME, "--out", tmp_path / "out", tmp_path / "teal.png", hub=hub, home=home)
    assert embedded.returncode == 0, embedded.stderr


def test_a_fetch_that_is_stopped_goes_on_with_the_same_command(checkpoint: Path, tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()
    with HubServer(NAME, checkpoint) as hub:
        command = [GLM4V, "weights", "fetch", NAME, "--out", str(tmp_path / "tower")]
        hub.trouble.before = lambda: (reached.set(), go_on.wait(60)) if len(hub.asked) > 8 else None
        first = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.PIPE, text=True)
        assert reached.wait(60)
        first.send_signal(signal.SIGINT)
        go_on.set()
        _, messages = first.communicate(timeout=60)
        assert first.returncode == 130
        assert "the same command goes on from here" in messages
        assert not (tmp_path / "tower" / "model.safetensors").exists()

        again = glm4v("weights", "fetch", NAME, "--out", tmp_path / "tower", hub=hub, home=tmp_path)
    assert again.stdout.strip() == str(tmp_path / "tower"), again.stderr
    assert_same_tower(tmp_path / "tower", checkpoint)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["some-lab/other"], "no model of that name"),
        (["not a model!"], "not the form of a hub id"),
        ([NAME, "--revision", "v9"], "no revision 'v9'"),
    ],
)
def test_what_cannot_be_fetched_is_told(checkpoint: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    with HubServer(NAME, checkpoint) as hub:
        result = glm4v("weights", "fetch", *arguments, hub=hub, home=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_checkpoint_on_this_machine_is_cut_down(checkpoint: Path, tmp_path: Path) -> None:
    with HubServer(NAME, checkpoint) as hub:
        refused = glm4v("weights", "fetch", checkpoint, hub=hub, home=tmp_path)
        cut = glm4v("weights", "fetch", checkpoint, "--out", tmp_path / "tower", hub=hub, home=tmp_path)
        assert not hub.asked
    assert refused.returncode == 2
    assert cut.returncode == 0, cut.stderr
    assert_same_tower(tmp_path / "tower", checkpoint)
    assert (tmp_path / "tower" / "model.safetensors").stat().st_size < (checkpoint / SHARDS[1]).stat().st_size * 2
