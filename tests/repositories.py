"""What the tests of the repository share: a job of made-up items, and embeddings that nobody computed."""

from __future__ import annotations

import uuid
from collections import Counter

from sqlalchemy import Engine, text

from glm4v_client.states import ItemState, MediaKind
from worker.records import ClaimedItem, EmbeddingRecord, JobRecord, NewJob, Reconciled, Source, Succeeded
from worker.repository import Repository

MODEL = "random:tiny"
LEASE = 60.0


def sources(count: int) -> list[Source]:
    return [Source(source=f"file:///photo-{number}.jpg") for number in range(count)]


def make_job(repository: Repository, count: int = 3, *, close: bool = True, **values: object) -> JobRecord:
    job, _ = repository.create_job(NewJob(**{"model": MODEL, **values}), sources(count), close=close)
    return job


def item_ids(repository: Repository, job: JobRecord) -> list[int]:
    return [item.id for item in repository.list_items(job.id, limit=10_000)]


def claim_all(repository: Repository, job: JobRecord, *, worker: str = "worker") -> list[ClaimedItem]:
    return repository.claim(item_ids(repository, job), worker=worker, lease_seconds=LEASE)


def embedding(content: str = "a", *, fingerprint: str = "f", kind: MediaKind = MediaKind.IMAGE) -> EmbeddingRecord:
    is_video = kind is MediaKind.VIDEO
    return EmbeddingRecord(
        content_sha256=content * 64,
        fingerprint=fingerprint * 64,
        kind=kind,
        object_key=f"embeddings/{uuid.uuid4().hex}",
        grid_thw=(2, 4, 6),
        timestamps=(0.0, 0.1 + 0.2) if is_video else None,
        frame_indices=(0, 7, 14, 21) if is_video else None,
        num_tokens=12,
        dim=64,
        dtype="bfloat16",
        byte_size=1700,
        object_sha256="d" * 64,
    )


def succeeded(item: ClaimedItem, content: str = "a") -> Succeeded:
    return Succeeded(item=item, embedding=embedding(content), timings={"fetch": 0.25})


def states(repository: Repository, job: JobRecord) -> list[ItemState]:
    return [item.state for item in repository.list_items(job.id, limit=10_000)]


def check_counters(engine: Engine) -> None:
    """Every job's counters equal its rows; every terminal item is finished; every success has an embedding."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT job_id, state, count(*) AS count FROM items GROUP BY job_id, state"))
        counts: dict[object, Counter[str]] = {}
        for row in rows:
            counts.setdefault(row.job_id, Counter())[row.state] = row.count
        for job in connection.execute(text("SELECT * FROM jobs")).mappings():
            counted = counts.get(job["id"], Counter())
            assert {state.value: job[state.value] for state in ItemState} == {
                state.value: counted[state.value] for state in ItemState
            }
            assert job["total"] == sum(counted.values())
            unfinished = job["queued"] + job["running"]
            assert (job["finished_at"] is not None) == (job["closed_at"] is not None and unfinished == 0)
        for broken in (
            "(state IN ('succeeded', 'failed', 'cancelled')) <> (finished_at IS NOT NULL)",
            "(state = 'succeeded') <> (embedding_id IS NOT NULL)",
            "(state = 'running') <> (lease_expires_at IS NOT NULL)",
            "state = 'running' AND (dispatched_at IS NOT NULL OR not_before IS NOT NULL OR lease_owner IS NULL)",
            "state = 'failed' AND error_code IS NULL",
        ):
            assert connection.execute(text(f"SELECT count(*) FROM items WHERE {broken}")).scalar() == 0, broken


def reconcile(repository: Repository, *, max_attempts: int = 3, **redeliver_after: float) -> Reconciled:
    done = repository.reconcile(max_attempts=max_attempts, redeliver_after={MODEL: 600, **redeliver_after})
    assert done is not None
    return done


def age(engine: Engine, table: str, column: str, seconds: int) -> None:
    """Move a column's times into the past."""
    earlier = {
        "sqlite": f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-{seconds} seconds')",
        "postgresql": f"{column} - interval '{seconds} seconds'",
    }[engine.dialect.name]
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = {earlier}"))
