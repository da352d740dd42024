"""What heals by itself: due retries, leases of dead workers, leftovers of cancelled jobs, lost messages.

Each step is a transaction of its own, so that its locks are taken in the one order that all transactions keep: items,
then embeddings, then jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, Update, select, text, update

from glm4v_client.states import ItemState
from worker.clock import now, now_plus
from worker.database import reading, transaction
from worker.errors import WorkerLost
from worker.records import Reconciled
from worker.repository_claims import locked
from worker.repository_counters import Transition, apply
from worker.repository_jobs import cancel_queued
from worker.tables import Item, Job, in_state

#: Rows that one transaction of a pass mends; the next pass takes the rest.
BATCH_ROWS = 5_000

#: The advisory lock that one reconciler at a time holds.
ADVISORY_LOCK = 4_111_001


def reconcile(engine: Engine, *, max_attempts: int, redeliver_after: Mapping[str, float]) -> Reconciled | None:
    """See Repository.reconcile."""
    with transaction(engine) as connection:
        if not try_lock(connection):
            return None
        due = queue_due_retries(connection)
    suspects, lost = _take_back_expired(engine, max_attempts)
    with reading(engine) as connection:
        leftovers = cancelled_jobs_with_leftovers(connection)
    return Reconciled(
        due=due,
        suspects=suspects,
        lost=lost,
        cancelled=sum(cancel_queued(engine, job_id) for job_id in leftovers),
        redelivered=sum(_forget_messages(engine, model, seconds) for model, seconds in redeliver_after.items()),
    )


def _take_back_expired(engine: Engine, max_attempts: int) -> tuple[int, int]:
    with transaction(engine) as connection:
        return take_back_expired(connection, max_attempts=max_attempts) if try_lock(connection) else (0, 0)


def _forget_messages(engine: Engine, model: str, seconds: float) -> int:
    with transaction(engine) as connection:
        return forget_messages(connection, model, older_than_seconds=seconds) if try_lock(connection) else 0


def try_lock(connection: Connection) -> bool:
    """Whether this transaction is the only reconciler. SQLite lets one transaction write at a time anyway."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK}).scalar())


def queue_due_retries(connection: Connection) -> int:
    """Make retries whose time came like any other queued item."""
    due = (
        select(Item.id)
        .where(in_state(ItemState.QUEUED), Item.not_before <= now())
        .order_by(Item.not_before)
        .limit(BATCH_ROWS)
    )
    values = {"not_before": None, "dispatched_at": None}
    return _count(connection, update(Item).where(Item.id.in_(locked(due))).values(values))


def take_back_expired(connection: Connection, *, max_attempts: int) -> tuple[int, int]:
    """Queue the items of silent workers again, as suspects, or fail them. Returns (queued, failed)."""
    rows = connection.execute(
        select(Item.id, Item.job_id, Item.attempt)
        .where(in_state(ItemState.RUNNING), Item.lease_expires_at < now())
        .order_by(Item.lease_expires_at)
        .limit(BATCH_ROWS)
        .with_for_update(skip_locked=True)
    ).all()
    transitions = [_after_silence(row, max_attempts) for row in rows]
    apply(connection, transitions)
    lost = sum(transition.to is ItemState.FAILED for transition in transitions)
    return len(transitions) - lost, lost


def expire_leases(connection: Connection) -> int:
    """End every lease now."""
    running = select(Item.id).where(in_state(ItemState.RUNNING)).order_by(Item.id)
    return _count(connection, update(Item).where(Item.id.in_(locked(running))).values(lease_expires_at=now_plus(-1)))


def cancelled_jobs_with_leftovers(connection: Connection) -> Sequence[UUID]:
    """Jobs whose cancellation was interrupted before all their queued items were."""
    return (
        connection.execute(
            select(Job.id).where(Job.finished_at.is_(None), Job.cancelled_at.is_not(None), Job.queued > 0)
        )
        .scalars()
        .all()
    )


def forget_messages(connection: Connection, model: str, *, older_than_seconds: float) -> int:
    """Take the messages of a queue for lost that no worker claimed for so long; their items are sent again."""
    sent = (
        select(Item.id)
        .where(
            in_state(ItemState.QUEUED),
            Item.dispatched_at.is_not(None),
            Item.model == model,
            Item.dispatched_at <= now_plus(-older_than_seconds),
        )
        .order_by(Item.dispatched_at)
        .limit(BATCH_ROWS)
    )
    return _count(connection, update(Item).where(Item.id.in_(locked(sent))).values(dispatched_at=None))


def _count(connection: Connection, change: Update) -> int:
    # SQLite's driver does not count the rows of a statement that begins with WITH.
    return len(connection.execute(change.returning(Item.id)).all())


def _after_silence(row: Row[*tuple[Any, ...]], max_attempts: int) -> Transition:
    if row.attempt < max_attempts:
        return Transition(item_id=row.id, job_id=row.job_id, to=ItemState.QUEUED, suspect=True, keep_owner=False)
    return Transition(
        item_id=row.id,
        job_id=row.job_id,
        to=ItemState.FAILED,
        keep_owner=False,
        error_code=WorkerLost.code,
        error_message=WorkerLost().message,
    )
