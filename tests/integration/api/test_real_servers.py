"""The API over Postgres, Valkey and S3: rows and messages, and which server keeps it from being ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from api.application import create_app
from api.service import Service, open_service
from tests.integration.conftest import running
from tests.servers import S3, Postgres, Server, Valkey
from worker.celery import queue_name
from worker.database import migrate
from worker.fetching import open_fetcher
from worker.settings import Settings

MODEL = "model"


class Deployment:
    """An API whose servers are of its own, so that a test may stop them."""

    def __init__(self, *, database_url: str, broker_url: str, store_url: str) -> None:
        migrate(database_url)
        self.settings = Settings(
            database_url=database_url,
            broker_url=broker_url,
            store_url=store_url,
            s3_access_key=S3.access_key,
            s3_secret_key=S3.secret_key,
            model=MODEL,
            items_per_message=4,
            database_timeout_seconds=3,
            broker_timeout_seconds=2,
            store_timeout_seconds=3,
            store_retries=0,
        )
        self.service: Service = open_service(self.settings)
        self.client = TestClient(
            create_app(self.service), base_url="http://localhost", client=("127.0.0.1", 50_000), follow_redirects=False
        )

    def submit(self, items: int) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", json={"items": [f"s3://media/{n}.jpg" for n in range(items)]})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def readiness(self) -> tuple[int, list[str]]:
        """The status, and the servers that are not ready."""
        answer = self.client.get("/readyz")
        return answer.status_code, [name for name, told in answer.json()["servers"].items() if not told["ready"]]

    def is_ready(self) -> bool:
        return self.readiness() == (200, [])


@pytest.fixture
def deployment(database_url: str, broker_url: str, store_url: str) -> Iterator[Deployment]:
    deployed = Deployment(database_url=database_url, broker_url=broker_url, store_url=store_url)
    with deployed.client:
        yield deployed


def waiting_messages(valkey: Valkey) -> int:
    with valkey.client() as client:
        return sum(int(client.llen(key)) for key in client.keys(f"{queue_name(MODEL)}*"))


def test_a_submission_becomes_rows_and_then_messages(
    database_url: str, broker_url: str, store_url: str, valkey: Valkey
) -> None:
    deployed = Deployment(database_url=database_url, broker_url=broker_url, store_url=store_url)

    with deployed.client:
        job = deployed.submit(10)
        listed = deployed.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"]

    # The application's end sends what was announced.
    assert [item["position"] for item in listed] == list(range(10))
    assert {item["state"] for item in listed} == {"queued"}
    assert waiting_messages(valkey) == 3


def test_an_upload_is_readable_by_workers_under_its_reference(deployment: Deployment) -> None:
    kept = deployment.client.post("/v1/uploads?name=cat.jpg", content=b"x" * 100_000).json()

    assert kept["source"].startswith("s3://test-")
    with open_fetcher(deployment.settings) as fetcher, fetcher.fetch(kept["source"], check=lambda: None) as media:
        assert (media.size, media.sha256) == (100_000, kept["sha256"])


def test_all_three_servers_are_asked(deployment: Deployment) -> None:
    assert deployment.readiness() == (200, [])


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (Postgres, "database", "database_unavailable"),
        (Valkey, "broker", "broker_unavailable"),
        (S3, "store", "storage_unavailable"),
    ],
)
def test_the_server_that_is_down_is_named_until_it_is_back(
    kind: Callable[[], Server], name: str, code: str, database_url: str, broker_url: str, store_url: str
) -> None:
    for server in running(kind):
        urls = {"database_url": database_url, "broker_url": broker_url, "store_url": store_url}
        own = server.store_url("own-bucket") if isinstance(server, S3) else server.url
        deployed = Deployment(**{**urls, f"{name}_url": own})
        with deployed.client as client:
            assert deployed.readiness() == (200, [])
            server.stop()
            assert deployed.readiness() == (503, [name])
            assert client.get("/readyz").json()["servers"][name]["code"] in (code, "timeout")
            assert client.get("/healthz").status_code == 200
            server.start()
            server.wait(deployed.is_ready)


def test_a_job_is_accepted_while_the_broker_is_down(database_url: str, store_url: str) -> None:
    for valkey in running(Valkey):
        valkey.stop()
        deployed = Deployment(database_url=database_url, broker_url=valkey.url, store_url=store_url)
        with deployed.client:
            job = deployed.submit(10)

        record = deployed_record(database_url, store_url, valkey.url, job["id"])
        assert (record.progress.queued, record.progress.total) == (10, 10)


def deployed_record(database_url: str, store_url: str, broker_url: str, job_id: str) -> Any:
    again = Deployment(database_url=database_url, broker_url=broker_url, store_url=store_url)
    try:
        return again.service.repository.get_job(UUID(job_id))
    finally:
        again.service.close()


def test_an_api_starts_while_its_store_is_down_and_works_when_it_is_back(database_url: str, broker_url: str) -> None:
    for s3 in running(S3):
        s3.stop()
        deployed = Deployment(database_url=database_url, broker_url=broker_url, store_url=s3.store_url("late-bucket"))
        with deployed.client as client:
            refused = client.post("/v1/uploads", content=b"x")
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
            assert refused.headers["retry-after"]
            deployed.submit(1)
            s3.start()
            assert client.post("/v1/uploads", content=b"x").status_code == 201
