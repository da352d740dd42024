"""From rows to what the API says of them. `worker.job_answer` makes the job, which webhooks say too."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel

from glm4v_client.records import Delivery, Embedding, Item, ItemError, JobDetail, Page, Queue, Webhook, Worker
from worker.job_answer import job_answer
from worker.records import EmbeddingRecord, ItemRecord, JobRecord, QueueDepth, WebhookRecord, WorkerRecord
from worker.repository import Repository

Record = TypeVar("Record", bound=BaseModel)


def job_detail(repository: Repository, job: JobRecord) -> JobDetail:
    """A job with its webhook, which is asked for only where there is one."""
    webhook = repository.webhooks.get(job.id) if job.webhook is not None else None
    return JobDetail(**dict(job_answer(job)), webhook=None if webhook is None else webhook_answer(webhook))


def webhook_answer(webhook: WebhookRecord) -> Webhook:
    return Webhook(
        url=webhook.url,
        state=webhook.state.value,
        next_attempt_at=webhook.next_attempt_at,
        deliveries=[Delivery(**asdict(delivery)) for delivery in webhook.deliveries],
    )


def item_answer(item: ItemRecord) -> Item:
    return Item(
        id=item.id,
        job_id=item.job_id,
        position=item.position,
        source=item.source,
        kind=item.kind,
        state=item.state,
        attempt=item.attempt,
        worker=None if item.lease_owner is None else item.lease_owner.rpartition("/")[0],
        not_before=item.not_before,
        error=None if item.error_code is None else ItemError(code=item.error_code, message=item.error_message or ""),
        timings=dict(item.timings),
        created_at=item.created_at,
        started_at=item.started_at,
        finished_at=item.finished_at,
        embedding=None if item.embedding is None else embedding_answer(item.embedding),
    )


def embedding_answer(embedding: EmbeddingRecord) -> Embedding:
    return Embedding(
        kind=embedding.kind,
        grid_thw=embedding.grid_thw,
        timestamps=None if embedding.timestamps is None else list(embedding.timestamps),
        frame_indices=None if embedding.frame_indices is None else list(embedding.frame_indices),
        num_tokens=embedding.num_tokens,
        dim=embedding.dim,
        dtype=embedding.dtype,
        byte_size=embedding.byte_size,
        content_sha256=embedding.content_sha256,
        object_sha256=embedding.object_sha256,
        object_key=embedding.object_key,
        fingerprint=embedding.fingerprint,
    )


def worker_answer(worker: WorkerRecord) -> Worker:
    return Worker(**asdict(worker))


def queue_answer(depth: QueueDepth) -> Queue:
    return Queue(model=depth.model, queued=depth.queued, running=depth.running, oldest_seconds=depth.oldest_seconds)


def page(entries: list[Record], *, limit: int, cursor: str | None) -> Page[Record]:
    """A page of a list that was asked for one entry more than it shows: that one says whether more follows.

    Args:
        cursor: what fetches the entries after the last shown one.
    """
    more = len(entries) > limit
    return Page(entries=entries[:limit], next_cursor=cursor if more else None)
