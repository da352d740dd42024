"""A worker embeds with real weights, or with random ones that were asked for by name; else it does not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glm4v_core.embedding_pipeline import load_pipeline
from tests.cluster import Cluster


@pytest.fixture
def cluster(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path,
        GLM4V_DATABASE_URL=database_url,
        GLM4V_BROKER_URL=broker_url,
        GLM4V_STORE_URL=f"file://{tmp_path}/objects",
    )
    yield cluster
    cluster.close()


@pytest.fixture
def hub_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What HF_HOME names: no model has been fetched, and the hub would be refused a connection."""
    home = tmp_path / "hub"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return home


@pytest.mark.usefixtures("hub_home")
@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({}, "glm4v weights fetch zai-org/GLM-4.1V-9B-Thinking`"),
        ({"GLM4V_MODEL_REVISION": "v2"}, "glm4v weights fetch zai-org/GLM-4.1V-9B-Thinking --revision v2`"),
    ],
)
def test_without_its_weights_a_worker_ends_and_says_how_to_fetch_them(
    cluster: Cluster, settings: dict[str, str], command: str
) -> None:
    worker = cluster.start_worker({"GLM4V_MODEL": "zai-org/GLM-4.1V-9B-Thinking", **settings}, app="worker")
    cluster.wait(lambda: worker.exit_code is not None, "the worker has ended")
    assert worker.exit_code == 1
    assert f"the weights of zai-org/GLM-4.1V-9B-Thinking are not on this machine: run `{command}" in cluster.logs()
    assert "Traceback" not in cluster.logs()


def test_fetched_weights_are_found_by_name_without_asking_the_hub(cluster: Cluster, hub_home: Path) -> None:
    model = hub_home / "glm4v" / "zai-org--GLM-4.1V-9B-Thinking"
    with pytest.warns(UserWarning, match="random"):
        load_pipeline("random:tiny").save_pretrained(model / "c0ffee")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("c0ffee\n")
    cluster.start_workers(1, app="worker", GLM4V_MODEL="zai-org/GLM-4.1V-9B-Thinking")
    assert "random" not in cluster.logs()


def test_random_weights_asked_for_by_name_are_warned_of_at_each_start(cluster: Cluster) -> None:
    for starts in (1, 2):
        (worker,) = cluster.start_workers(1, app="worker", GLM4V_MODEL="random:tiny")
        assert worker.log.read_text().count("WARNING worker.encoder: The weights are random") == 1, starts
        assert worker.terminate(seconds=30) == 0
