"""The command line against the service with servers: Postgres, Valkey, S3, uvicorn, and `glm4v worker`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from api.keys import new_key
from tests.conftest import REPOSITORY
from tests.glm4v_command import Glm4v, photos, wait_until
from tests.integration.conftest import running
from tests.servers import S3, Postgres, Valkey, end_with_parent, free_port
from worker.database import migrate


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """GLM4V_ variables of a service with servers of its own and one API key."""
    with ExitStack() as servers:
        postgres, valkey, s3 = (servers.enter_context(contextmanager(running)(kind)) for kind in (Postgres, Valkey, S3))
        database_url = postgres.create_database()
        migrate(database_url)
        yield {
            "GLM4V_DATABASE_URL": database_url,
            "GLM4V_BROKER_URL": valkey.url,
            "GLM4V_STORE_URL": s3.store_url("tokens"),
            "GLM4V_S3_ACCESS_KEY": S3.access_key,
            "GLM4V_S3_SECRET_KEY": S3.secret_key,
            "GLM4V_MODEL": "random:tiny",
            "GLM4V_DECODE_PROCESSES": "1",
        }


def test_submitted_watched_and_fetched_through_every_server(variables: dict[str, str], tmp_path: Path) -> None:
    secret, entry = new_key("tests")
    service = Glm4v(tmp_path, **variables, GLM4V_API_KEYS=f"{entry.name}:{entry.sha256}")
    with process(service, "worker", "--name", "gpu0") as worker, api(service) as url:
        wait_until(lambda: " ready." in (tmp_path / "worker.log").read_text() or worker.poll() is not None)
        assert worker.poll() is None, (tmp_path / "worker.log").read_text()
        producer = Glm4v(tmp_path, GLM4V_URL=url, GLM4V_API_KEY=secret)
        (tmp_path / "broken.png").write_text("no picture")

        code, out, err = producer.run("submit", *photos(tmp_path, 3), "broken.png", "--watch")

        assert code == 1, err
        job, report, *_ = out.splitlines()
        assert "3 embedded, 1 failed: 48 tokens" in report
        code, out, err = producer.run("fetch", job, "--out", "tokens")
        assert (code, len(list((tmp_path / "tokens").glob("*.safetensors")))) == (1, 3), err
        assert producer.json("retry", job) == [{"retried": 1}]
        assert producer.run("watch", job)[0] == 1
        assert producer.json("status")[0]["owner"] == "tests"
        assert Glm4v(tmp_path, GLM4V_URL=url, GLM4V_API_KEY="wrong").run("status", job)[0] == 2

        code, _, err = service.run("audit", "--digests")
        assert code == 0, err
        # Celery's worker ends by itself when it is asked to.
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(120) == 0


@contextmanager
def process(commands: Glm4v, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command for the length of the block, its output in a log named after it."""
    with (commands.folder / f"{arguments[0]}.log").open("wb") as log:
        running_process = commands.start(*arguments, stdout=log, stderr=log)
    try:
        yield running_process
    finally:
        running_process.kill()
        running_process.wait()


@contextmanager
def api(commands: Glm4v) -> Iterator[str]:
    """The URL of `uvicorn api.main:app`, which answers, for the length of the block."""
    port = free_port()
    with (commands.folder / "api.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port)],
            cwd=REPOSITORY,
            env=commands.environment,
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url) or server.poll() is not None)
        assert server.poll() is None, (commands.folder / "api.log").read_text()
        yield url
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False
