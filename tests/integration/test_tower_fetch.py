"""Downloading the tower alone, from a hub on loopback that redirects, breaks, and asks for patience."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from glm4v_core import GLM4VEmbeddingPipeline, Glm4vVisionConfig
from glm4v_core.config import Tower
from glm4v_core.fetched import FetchedTowers
from glm4v_core.patience import Patience
from glm4v_core.tower_fetch import extract_tower, fetch_tower
from glm4v_core.weights import CheckpointError
from tests.checkpoints import SHARDS, assert_same_tower, write_checkpoint
from tests.hub_server import HubServer

NAME = "some-lab/GLM-9V"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[HubServer]:
    with HubServer(NAME, checkpoint) as server:
        yield server


@pytest.fixture
def towers(tmp_path: Path) -> FetchedTowers:
    return FetchedTowers(tmp_path / "towers")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glm4v_core.tower_plan._PART_BYTES", 20_000)


def patient(waits: list[float] | None = None, attempts: int = 8) -> Patience:
    """Notes how long it should wait, and does not."""
    return Patience(attempts=attempts, pause=(waits if waits is not None else []).append)


def test_only_the_towers_bytes_are_downloaded_and_they_make_a_checkpoint(
    hub: HubServer, towers: FetchedTowers, checkpoint: Path
) -> None:
    progress: list[tuple[int, int]] = []
    directory = fetch_tower(
        NAME, endpoint=hub.url, towers=towers, progress=lambda done, total: progress.append((done, total))
    )

    assert_same_tower(directory, checkpoint)
    GLM4VEmbeddingPipeline.from_pretrained(directory)
    size = (directory / "model.safetensors").stat().st_size
    assert progress[-1] == (size, size)
    assert hub.bytes_asked(SHARDS[0]) == 0
    # Beyond the tensors themselves: the headers of the two shards.
    assert hub.bytes_asked(SHARDS[1]) + hub.bytes_asked(SHARDS[2]) < size + 10_000
    assert not {"tokenizer.json"} & set(hub.downloaded)
    assert sorted(file.name for file in directory.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_a_fetched_tower_is_found_by_its_name_and_not_fetched_again(hub: HubServer, towers: FetchedTowers) -> None:
    assert towers.find(NAME) is None
    directory = fetch_tower(NAME, endpoint=hub.url, towers=towers)
    requests = len(hub.asked)

    assert towers.find(NAME) == towers.find(NAME, hub.commit) == directory
    assert fetch_tower(NAME, endpoint=hub.url, towers=towers) == directory
    assert len(hub.asked) == requests
    (entry,) = towers.list()
    assert (entry.name, entry.commit, entry.revisions, entry.path) == (NAME, hub.commit, ("main",), directory)
    assert towers.find(NAME, "v2") is None


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(checkpoint: Path, tmp_path: Path) -> None:
    with HubServer(NAME, checkpoint, token="hf_secret") as hub:
        with pytest.raises(CheckpointError, match="no model of that name that you may read"):
            fetch_tower(NAME, endpoint=hub.url, token="wrong", out=tmp_path / "tower")
        fetch_tower(NAME, endpoint=hub.url, token="hf_secret", out=tmp_path / "tower")

    assert_same_tower(tmp_path / "tower", checkpoint)
    assert {request.token for request in hub.asked if request.by_storage} == {None}
    assert {request.token for request in hub.asked if not request.by_storage} == {"hf_secret"}


def test_a_busy_hub_is_asked_again_when_it_says(hub: HubServer, tmp_path: Path, checkpoint: Path) -> None:
    waits: list[float] = []
    hub.trouble.busy, hub.trouble.unavailable = 2, 1
    fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower", patience=patient(waits))

    assert_same_tower(tmp_path / "tower", checkpoint)
    assert waits.count(7.0) == 2
    assert len(waits) == 3


def test_a_broken_connection_goes_on_where_it_broke(hub: HubServer, tmp_path: Path, checkpoint: Path) -> None:
    hub.trouble.cut = 5
    fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower", patience=patient())

    assert_same_tower(tmp_path / "tower", checkpoint)
    size = (tmp_path / "tower" / "model.safetensors").stat().st_size
    begins = [request.range[0] for request in hub.asked if request.file == SHARDS[1] and request.range]
    assert len(begins) == len(set(begins))
    assert hub.bytes_asked(SHARDS[1]) + hub.bytes_asked(SHARDS[2]) < size + 5 * 20_000


def test_a_run_that_gave_up_is_continued_and_what_it_spoiled_is_fetched_again(
    hub: HubServer, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "tower"
    hub.trouble.before = break_after(hub, 12)
    with pytest.raises(CheckpointError, match="the same command goes on where this one stopped"):
        fetch_tower(NAME, endpoint=hub.url, out=out, patience=patient(attempts=2))
    assert not (out / "model.safetensors").exists()
    hub.trouble.before, hub.trouble.unavailable = lambda: None, 0
    journal = (out / "model.safetensors.parts").read_text().splitlines()
    spoiled = json.loads(journal[1])[0]
    with (out / "model.safetensors.incomplete").open("r+b") as file:
        file.seek(spoiled)
        file.write(b"\xff" * 8)
    before = list(hub.asked)

    fetch_tower(NAME, endpoint=hub.url, out=out)

    assert_same_tower(out, checkpoint)
    again = {request.range for request in hub.asked[len(before) :]} & {request.range for request in before}
    parts = [part for part in again if part is not None and part[0] > 10_000]
    assert 0 < len(parts) < 12


def break_after(hub: HubServer, requests: int):
    def before() -> None:
        if len(hub.asked) > requests:
            hub.trouble.unavailable = 1000

    return before


def test_what_does_not_fit_is_refused_before_its_bytes_are_fetched(
    hub: HubServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Glm4vVisionConfig(depth=3, hidden_size=64, num_heads=2, out_hidden_size=96, intermediate_size=128)
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in checkpoint.iterdir():
        (changed / file.name).symlink_to(file)
    (changed / "config.json").unlink()
    (changed / "config.json").write_text(json.dumps({"vision_config": other.to_dict()}))
    hub.folder = changed

    with pytest.raises(CheckpointError, match=r"does not fit the configuration: .* missing \(blocks\.2"):
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")
    assert hub.bytes_asked(SHARDS[1]) < 10_000


def test_a_server_that_knows_no_ranges_is_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.trouble.whole = True
    with pytest.raises(CheckpointError, match="does not send parts of files"):
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")


def test_names_revisions_and_full_disks_are_told_in_one_sentence(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="no revision 'v9'"):
        fetch_tower(NAME, "v9", endpoint=hub.url, out=tmp_path / "tower")
    with pytest.raises(CheckpointError, match="no model of that name"):
        fetch_tower("some-lab/other", endpoint=hub.url, out=tmp_path / "tower")
    with pytest.raises(CheckpointError, match="cannot be reached"):
        fetch_tower(NAME, endpoint="http://127.0.0.1:9", out=tmp_path / "tower", patience=patient())
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(CheckpointError, match=r"GiB free and needs .*: free some space"):
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")


@pytest.mark.parametrize("model_type", ["glm_ocr_vision", "glm5_next_vision"])
def test_the_familys_other_towers_are_fetched_too(tmp_path: Path, model_type: Tower) -> None:
    sizes = {"depth": 1, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 96, "intermediate_size": 128}
    if model_type == "glm5_next_vision":
        sizes["projection_intermediate_size"] = 160
    (tmp_path / "full").mkdir()
    full = write_checkpoint(tmp_path / "full", Glm4vVisionConfig(model_type=model_type, attention_bias=True, **sizes))
    with HubServer(NAME, full) as hub:
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")
    assert_same_tower(tmp_path / "tower", full)


def test_gated_models_and_portals_are_told_apart(hub: HubServer, tmp_path: Path) -> None:
    hub.trouble.gated = True
    with pytest.raises(CheckpointError, match="is gated: accept its terms"):
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")
    hub.trouble.portal = True
    with pytest.raises(CheckpointError, match="does not answer as a hub does"):
        fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")


def test_two_fetches_into_one_directory_do_not_mix(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "tower").mkdir()
    with (tmp_path / "tower" / "model.safetensors.incomplete").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is fetching into"):
            fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors.index.json", b"{}", "is not an index of tensors"),
        (SHARDS[1], b"\xff" * 100, "is not a safetensors file"),
        (SHARDS[1], b"\x02" + bytes(7) + b"[]", "is not a safetensors file"),
    ],
)
def test_a_damaged_checkpoint_is_named(checkpoint: Path, tmp_path: Path, file: str, content: bytes, said: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    (damaged / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        extract_tower(damaged, tmp_path / "tower")


def test_a_shard_that_is_cut_short_is_named(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "cut")
    with (tmp_path / "cut" / SHARDS[1]).open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(CheckpointError, match="before its own header says"):
        extract_tower(tmp_path / "cut", tmp_path / "tower")
    assert not (tmp_path / "tower" / "model.safetensors").exists()


def test_the_tower_is_taken_out_of_a_full_checkpoint_on_this_machine(checkpoint: Path, tmp_path: Path) -> None:
    out = extract_tower(checkpoint, tmp_path / "tower")

    assert_same_tower(out, checkpoint)
    with safe_open(out / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "origin": str(checkpoint.resolve())}
        assert {name.split(".")[1] for name in file.keys()} == {"visual"}  # noqa: SIM118 - no mapping
    assert extract_tower(checkpoint, out) == out


def test_other_weights_are_never_overwritten(hub: HubServer, checkpoint: Path, tmp_path: Path) -> None:
    out = fetch_tower(NAME, endpoint=hub.url, out=tmp_path / "tower")
    requests = len(hub.asked)
    assert fetch_tower(NAME, endpoint=hub.url, out=out) == out
    assert len(hub.asked) == requests
    with pytest.raises(CheckpointError, match=rf"from {NAME}@{hub.commit}: choose another directory"):
        extract_tower(checkpoint, out)
