"""The API over SQLite and a directory, and a program of this machine that calls it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from starlette.testclient import TestClient

from api.application import create_app
from api.service import open_service
from tests.repositories import claim_all, make_job
from tests.shown_items import store_video
from worker.database import migrate
from worker.records import EmbeddingRecord, Failed, ItemRecord, JobRecord
from worker.settings import Settings
from worker.storage import open_storage


class ServedApi:
    """Use it in a `with` statement; `client` makes requests."""

    def __init__(self, folder: Path, *, headers: dict[str, str] | None = None, **settings: Any) -> None:
        self.settings = Settings(
            database_url=f"sqlite:///{folder}/jobs.db",
            store_url=f"file://{folder}/store",
            **{"model": "random:tiny", **settings},
        )
        migrate(self.settings.database_url)
        self.announced: list[str] = []
        self.service = open_service(self.settings, announce=self.announced.append)
        self.repository = self.service.repository
        self.storage = open_storage(self.settings.store_url, self.settings)
        self.application = create_app(self.service)
        self.client = TestClient(
            self.application,
            base_url="http://localhost",
            client=("127.0.0.1", 50_000),
            headers=headers,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        self.client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, trace)

    def make_job(self, items: int = 3, **fields: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", json={"items": [f"s3://media/{n}.jpg" for n in range(items)], **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def embedded_clip(self, *, owner: str = "") -> ItemRecord:
        """An item that succeeded, its artefact in the store."""
        job = make_job(self.repository, 1, owner=owner)
        (item,) = claim_all(self.repository, job)
        self.repository.record([store_video(self.storage, item)])
        return self.repository.get_item(item.id)

    def artefact(self, embedding: EmbeddingRecord | None) -> bytes:
        assert embedding is not None
        with self.storage.open(embedding.object_key) as file:
            return file.read()

    def fail(self, job_id: str, *codes: str) -> JobRecord:
        """Let a job's items fail, one for each code."""
        job = self.repository.get_job(UUID(job_id))
        items = claim_all(self.repository, job)
        failed = [Failed(item=item, code=code, message="look again") for item, code in zip(items, codes, strict=False)]
        self.repository.record(failed)
        return self.repository.get_job(job.id)


def problem_of(answer: Any) -> tuple[int, str]:
    """Status and code of an answer, which must be a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    return answer.status_code, problem["code"]
