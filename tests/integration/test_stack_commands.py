"""Each service of the stack by its own command line, environment and health check, on the tests' own servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from glm4v_client import EmbeddingClient
from tests.servers import S3
from tests.stack import PATIENCE_SECONDS, Stack

API_KEY = "the-key-of-these-tests"


@pytest.fixture
def stack(tmp_path: Path, s3: S3, store_url: str, database_url: str, broker_url: str) -> Iterator[Stack]:
    variables = {
        **dict.fromkeys(("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD", "FLOWER_PASSWORD"), "unused"),
        "S3_ACCESS_KEY": s3.access_key,
        "S3_SECRET_KEY": s3.secret_key,
        "STORE_URL": store_url,
        "GLM4V_API_KEYS": f"tests:{hashlib.sha256(API_KEY.encode()).hexdigest()}",
        "GLM4V_MODEL": "random:tiny",
    }
    stack = Stack(tmp_path, variables, {"GLM4V_DATABASE_URL": database_url, "GLM4V_BROKER_URL": broker_url})
    yield stack
    stack.close()


def test_the_services_become_healthy_in_order_and_embed_an_upload(stack: Stack, tmp_path: Path) -> None:
    Image.new("RGB", (112, 112), "teal").save(tmp_path / "teal.png")
    for _ in range(2):
        assert stack.service("migrate").run() == 0, "each `up` runs it again"
    stack.start("api")
    worker = stack.start("worker")

    with EmbeddingClient(f"http://127.0.0.1:{stack.port}", api_key=API_KEY) as client:
        job = client.submit([tmp_path / "teal.png"])
        job.wait(timeout=PATIENCE_SECONDS)
        job.raise_for_failures()
        (item,) = job.items()
        assert item.embedding().shape == (item.num_tokens, 256)

    worker.terminate()
    assert worker.wait(PATIENCE_SECONDS) == 0


def test_health_checks_fail_where_nothing_runs(stack: Stack) -> None:
    assert not stack.service("api").is_healthy()
    assert not stack.service("worker").is_healthy()
