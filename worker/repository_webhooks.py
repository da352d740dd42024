"""Webhooks: which jobs have ended without their webhook knowing, and what came of each attempt.

A job's end is the value of its `finished_at`; a job whose failed items are retried ends again and is told again. An
attempt is counted before a byte is sent, like an item's, and its number is unique: no two processes make the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, case, func, insert, select, text, update

from worker.clock import now, now_plus
from worker.database import reading, transaction
from worker.errors import JobNotFound
from worker.records import DeliveryRecord, DueDelivery, JobRecord, WebhookRecord, WebhookState
from worker.repository_listings import JOBS, job_record
from worker.tables import WEBHOOK_DUE, Job, WebhookDelivery

#: Deliveries that are shown of a job.
_SHOWN = 20


class Webhooks:
    """The webhooks' part of the repository."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, *, lease_seconds: float, limit: int) -> list[DueDelivery]:
        """Begin the next attempt for jobs that have ended and whose webhook does not know.

        Args:
            lease_seconds: until an attempt of which nothing is heard counts as lost, and the next one is made.
        """
        with transaction(self._engine) as connection:
            return claim(connection, lease_seconds=lease_seconds, limit=limit)

    def record(
        self,
        delivery: DueDelivery,
        *,
        seconds: float,
        status: int | None = None,
        error: str | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        """Store what came of an attempt.

        Args:
            status: of the answer; None: there was none.
            error: None: it was delivered.
            retry_seconds: until the next attempt; None: there is none.
        """
        with transaction(self._engine) as connection:
            record(connection, delivery, seconds=seconds, status=status, error=error, retry_seconds=retry_seconds)

    def get(self, job_id: UUID) -> WebhookRecord | None:
        """A job's webhook and its latest deliveries, at most 20; None: it has no webhook.

        Raises:
            JobNotFound: there is no such job.
        """
        with reading(self._engine) as connection:
            return get_webhook(connection, job_id)


def claim(connection: Connection, *, lease_seconds: float, limit: int) -> list[DueDelivery]:
    """See Webhooks.claim."""
    # First those that were not told yet: receivers that are down must not keep the others waiting.
    job_ids = _lease(connection, Job.webhook_due_at.is_(None), lease_seconds, limit)
    if len(job_ids) < limit:
        job_ids += _lease(connection, Job.webhook_due_at <= now(), lease_seconds, limit - len(job_ids))
    if not job_ids:
        return []
    _end_lost_attempts(connection, job_ids, lease_seconds)
    # Read under the lock: it is the job's very end that is told, even if it is taken up again right afterwards.
    jobs = [job_record(row) for row in connection.execute(JOBS.where(Job.id.in_(job_ids)))]
    attempts = _last_attempts(connection, job_ids)
    return [_begin(connection, job, 1 + attempts.get((job.id, _end(job)), 0)) for job in jobs]


def record(
    connection: Connection,
    delivery: DueDelivery,
    *,
    seconds: float,
    status: int | None,
    error: str | None,
    retry_seconds: float | None,
) -> None:
    """See Webhooks.record."""
    job = update(Job).where(Job.id == delivery.job.id)
    if retry_seconds is None:
        connection.execute(job.values(webhook_settled_at=delivery.ended_at, webhook_due_at=None))
    else:
        # A job that has ended again meanwhile is not to wait for what became of its former end.
        due_at = case((Job.finished_at == delivery.ended_at, now_plus(retry_seconds)), else_=None)
        connection.execute(job.where(~_later_attempt(delivery)).values(webhook_due_at=due_at))
    connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery.id)
        .values(seconds=seconds, status=status, error=error)
    )


def get_webhook(connection: Connection, job_id: UUID) -> WebhookRecord | None:
    """See Webhooks.get."""
    columns = (Job.webhook, Job.finished_at, Job.webhook_due_at, Job.webhook_settled_at)
    job = connection.execute(select(*columns).where(Job.id == job_id)).one_or_none()
    if job is None:
        raise JobNotFound(f"there is no job {job_id}: check its id")
    if job.webhook is None:
        return None
    deliveries = _deliveries(connection, job_id)
    state = _state(job, deliveries)
    return WebhookRecord(
        url=job.webhook,
        state=state,
        next_attempt_at=job.webhook_due_at if state is WebhookState.WAITING else None,
        deliveries=tuple(deliveries),
    )


def _lease(connection: Connection, condition: ColumnElement[bool], lease_seconds: float, limit: int) -> list[UUID]:
    due = (
        select(Job.id)
        .where(text(WEBHOOK_DUE), condition)
        # In the order of the index: Postgres takes nearly all jobs for due ones, and would look through the table.
        .order_by(Job.webhook_due_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    leased = update(Job).where(Job.id.in_(select(due.c.id))).values(webhook_due_at=now_plus(lease_seconds))
    return sorted(connection.execute(leased.returning(Job.id)).scalars())


def _end_lost_attempts(connection: Connection, job_ids: Sequence[UUID], lease_seconds: float) -> None:
    """What is under way of jobs that are claimed again was lost with its process."""
    connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.job_id.in_(job_ids), WebhookDelivery.seconds.is_(None))
        .values(seconds=lease_seconds, error="the process that sent it ended before it knew the answer")
    )


def _last_attempts(connection: Connection, job_ids: Sequence[UUID]) -> Mapping[tuple[UUID, datetime], int]:
    rows = connection.execute(
        select(WebhookDelivery.job_id, WebhookDelivery.ended_at, func.max(WebhookDelivery.attempt).label("attempt"))
        .where(WebhookDelivery.job_id.in_(job_ids))
        .group_by(WebhookDelivery.job_id, WebhookDelivery.ended_at)
    )
    return {(row.job_id, row.ended_at): row.attempt for row in rows}


def _begin(connection: Connection, job: JobRecord, attempt: int) -> DueDelivery:
    assert job.webhook is not None
    values = {"job_id": job.id, "ended_at": _end(job), "attempt": attempt}
    delivery = insert(WebhookDelivery).values(values).returning(WebhookDelivery.id)
    return DueDelivery(
        id=connection.execute(delivery).scalar_one(), job=job, url=job.webhook, ended_at=_end(job), attempt=attempt
    )


def _end(job: JobRecord) -> datetime:
    assert job.progress.finished_at is not None
    return job.progress.finished_at


def _later_attempt(delivery: DueDelivery) -> Any:
    """Whether this one was taken for lost meanwhile, and another is being made."""
    return (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.job_id == delivery.job.id,
            WebhookDelivery.ended_at == delivery.ended_at,
            WebhookDelivery.attempt > delivery.attempt,
        )
        .exists()
    )


def _deliveries(connection: Connection, job_id: UUID) -> list[DeliveryRecord]:
    rows = connection.execute(
        select(
            WebhookDelivery.attempt,
            WebhookDelivery.sent_at,
            WebhookDelivery.seconds,
            WebhookDelivery.status,
            WebhookDelivery.error,
        )
        .where(WebhookDelivery.job_id == job_id, WebhookDelivery.seconds.is_not(None))
        .order_by(WebhookDelivery.ended_at.desc(), WebhookDelivery.attempt.desc())
        .limit(_SHOWN)
    )
    return [DeliveryRecord(**row._mapping) for row in rows]


def _state(job: Any, deliveries: Sequence[DeliveryRecord]) -> WebhookState:
    if job.finished_at is None or job.webhook_settled_at != job.finished_at:
        return WebhookState.WAITING
    return WebhookState.FAILED if deliveries[0].error is not None else WebhookState.DELIVERED
