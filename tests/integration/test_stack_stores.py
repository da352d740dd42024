"""Other stores than MinIO, by the overrides' own command lines and environments; and the query that scales workers."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.compose import compose
from tests.conftest import REPOSITORY
from tests.servers import S3, free_port
from tests.stack import Service, end, wait_until, with_port
from worker.database import create_engine, migrate
from worker.errors import StorageForbidden
from worker.records import NewJob, Source
from worker.repository import Repository
from worker.settings import Settings, load_settings
from worker.storage import Storage, open_storage


@pytest.fixture
def variables(s3: S3, store_url: str) -> dict[str, str]:
    """A .env that names the tests' store."""
    secrets = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD", "FLOWER_PASSWORD", "GLM4V_API_KEYS")
    store = {"S3_ACCESS_KEY": s3.access_key, "S3_SECRET_KEY": s3.secret_key, "STORE_URL": store_url}
    return {**dict.fromkeys(secrets, "unused"), **store, "GLM4V_MODEL": "random:tiny"}


@pytest.fixture
def seaweedfs(variables: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """docker-compose.seaweedfs.yml's server, healthy by its own check. Its endpoint."""
    port = free_port()
    definition = with_port(compose("docker-compose.seaweedfs.yml", variables=variables)["minio"], "9000", port)
    command = [word.replace("/data", str(tmp_path)) for word in definition["command"]]
    weed = str(Path(sys.executable).parent / "weed")
    server = Service(definition, [weed, *command, *other_ports()], {}, tmp_path / "weed.log")
    process = server.start()
    (health,) = re.findall(r"http://[^ \"]+", definition["healthcheck"]["test"][1])
    wait_until(lambda: process.poll() is not None or answers(health), server.log)
    yield f"http://127.0.0.1:{port}"
    end(process)


def other_ports() -> list[str]:
    """In its container it has the usual ones to itself."""
    roles = [f"-{role}.port{kind}" for role in ("master", "volume", "filer") for kind in ("", ".grpc")]
    ports = [f"{name}={free_port()}" for name in (*roles, "-s3.port.grpc")]
    return [*ports, "-s3.port.iceberg=0", "-s3.port.lance=0"]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def storage(endpoint: str, access_key: str, secret_key: str) -> Storage:
    url = f"s3://embeddings?endpoint={endpoint}"
    keys: dict[str, Any] = {"s3_access_key": access_key, "s3_secret_key": secret_key}
    return open_storage(url, load_settings(Settings, database_url="sqlite:///unused", store_url=url, **keys))


def test_seaweedfs_in_the_place_of_minio_keeps_objects(seaweedfs: str, variables: dict[str, str]) -> None:
    store = storage(seaweedfs, variables["S3_ACCESS_KEY"], variables["S3_SECRET_KEY"])
    with store.writer("a/key") as writer:
        writer.write(b"bytes")
    assert store.size("a/key") == 5


def test_seaweedfs_in_the_place_of_minio_refuses_other_keys(seaweedfs: str, variables: dict[str, str]) -> None:
    with pytest.raises(StorageForbidden):
        storage(seaweedfs, variables["S3_ACCESS_KEY"], "another secret")


def ask_store_elsewhere(variables: dict[str, str], log: Path) -> int:
    definition = compose("docker-compose.s3.yml", variables=variables)["minio"]
    return Service(definition, definition["command"], {}, log).run()


def test_a_store_elsewhere_is_asked_before_anything_starts(variables: dict[str, str], tmp_path: Path) -> None:
    assert ask_store_elsewhere(variables, tmp_path / "right.log") == 0
    assert ask_store_elsewhere({**variables, "S3_SECRET_KEY": "another secret"}, tmp_path / "wrong.log") == 1
    assert "check GLM4V_S3_ACCESS_KEY" in (tmp_path / "wrong.log").read_text()


def test_autoscaling_counts_the_unfinished_items_of_its_model(database_url: str) -> None:
    migrate(database_url)
    engine = create_engine(database_url)
    repository = Repository(engine)
    for model, items in (("zai-org/GLM-4.1V-9B-Thinking", 3), ("zai-org/GLM-4.1V-9B-Thinking", 4), ("another", 5)):
        job, _ = repository.create_job(NewJob(model=model))
        repository.add_items(job.id, [Source(source=f"https://example.org/{number}") for number in range(items)])
    engine.dispose()

    autoscaling = yaml.safe_load((REPOSITORY / "deploy" / "kubernetes" / "autoscaling.yaml").read_text())
    (trigger,) = autoscaling["spec"]["triggers"]
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        assert connection.execute(trigger["metadata"]["query"]).fetchall() == [(7,)]
