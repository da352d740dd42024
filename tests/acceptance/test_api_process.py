"""`uvicorn api.main:app` as a supervisor runs it: live events, and an end that waits for nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers import end_with_parent, free_port
from worker.database import migrate


@contextmanager
def api_process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A process that answers, and a client of it."""
    settings = {"DATABASE_URL": f"sqlite:///{folder}/jobs.db", "STORE_URL": f"file://{folder}", "MODEL": "random:tiny"}
    migrate(settings["DATABASE_URL"])
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port)],
        env={**os.environ, **{f"GLM4V_{name}": value for name, value in settings.items()}},
        stderr=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    assert process.stderr is not None
    try:
        assert any(b"Uvicorn running" in line for line in process.stderr), "it ended before it answered"
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_events_come_as_things_happen_and_a_server_that_stops_ends_them(tmp_path: Path) -> None:
    with api_process(tmp_path) as (process, client):
        job = client.post("/v1/jobs", json={"items": ["a", "b"], "closed": False}).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            assert '"total":2' in next(lines)
            client.post(f"/v1/jobs/{job['id']}/items", json={"items": ["c"]})
            assert '"total":3' in next(lines)

            process.send_signal(signal.SIGTERM)

            assert list(lines) == []
        assert process.wait(60) in (0, -signal.SIGTERM)


def test_an_upload_whose_client_leaves_is_no_mistake_of_ours_and_leaves_nothing_behind(tmp_path: Path) -> None:
    counted = 'glm4v_api_requests_total{method="POST",route="/v1/uploads",status="4xx"} 1.0'
    with api_process(tmp_path) as (process, client):
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as sender:
            sender.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
            sender.sendall(b"x" * 3_000_000)
        deadline = time.monotonic() + 60
        while counted not in client.get("/metrics").text:
            assert time.monotonic() < deadline, "the upload is still under way"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        log = process.stderr.read()

    assert b"Traceback" not in log
    assert b"POST /v1/uploads 499" in log
    assert list((tmp_path / ".incoming").iterdir()) == []
    assert not (tmp_path / "uploads").exists()
