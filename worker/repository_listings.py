"""What people ask: how far a job is, which items failed, how long the queues are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, func, literal, or_, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from glm4v_client.states import HIGHEST_PRIORITY, LOWEST_PRIORITY, ItemState, JobState, MediaKind
from worker.clock import now
from worker.errors import ItemNotFound, JobNotFound
from worker.records import ItemRecord, JobProgress, JobRecord, QueueDepth
from worker.repository_outcomes import EMBEDDING_COLUMNS, embedding_record
from worker.tables import Embedding, Item, Job, in_state, pinned


def get_job(connection: Connection, job_id: UUID) -> JobRecord:
    """One row read, however many items the job has."""
    row = connection.execute(JOBS.where(Job.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}: check its id")
    return job_record(row)


def list_jobs(
    connection: Connection,
    *,
    owner: str | None,
    state: JobState | None,
    label: tuple[str, str] | None,
    before: UUID | None,
    limit: int,
) -> list[JobRecord]:
    """The newest first."""
    query = JOBS.order_by(Job.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(Job.owner == owner)
    if before is not None:
        query = query.where(Job.id < before)
    if state is not None:
        query = query.where(_has_state(state))
    if label is not None:
        query = query.where(_has_label(connection, *label))
    return [job_record(row) for row in connection.execute(query)]


def get_item(connection: Connection, item_id: int) -> ItemRecord:
    row = connection.execute(_ITEMS.where(Item.id == item_id)).one_or_none()
    if row is None:
        raise ItemNotFound(f"there is no item {item_id}: check its id")
    return _item_record(row)


def list_items(
    connection: Connection,
    job_id: UUID,
    *,
    states: Sequence[ItemState],
    error_code: str | None,
    after: int,
    limit: int,
) -> list[ItemRecord]:
    """In the order of submission. The index is by job and state: one short scan for each state, then merged."""
    scans = []
    for state in states:
        scan = select(Item.id).where(Item.job_id == job_id, pinned(Item.state, state.value), Item.id > after)
        if error_code is not None:
            scan = scan.where(Item.error_code == error_code)
        scans.append(select(scan.order_by(Item.state, Item.id).limit(limit).subquery().c.id))
    page = union_all(*scans).subquery()
    ids = connection.execute(select(page.c.id).order_by(page.c.id).limit(limit)).scalars().all()
    return [_item_record(row) for row in connection.execute(_ITEMS.where(Item.id.in_(ids)).order_by(Item.id))]


def unfinished_items(connection: Connection, owner: str) -> int:
    """Of all its jobs, from their counters: the cost grows with the unfinished jobs, not with items."""
    unfinished = func.coalesce(func.sum(Job.queued + Job.running), 0)
    return int(connection.execute(select(unfinished).where(Job.finished_at.is_(None), Job.owner == owner)).scalar_one())


def queue_depths(connection: Connection) -> list[QueueDepth]:
    """One entry per model that has unfinished jobs; the cost grows with those jobs and the window, not with items."""
    rows = connection.execute(
        select(Job.model, func.sum(Job.queued).label("queued"), func.sum(Job.running).label("running"))
        .where(Job.finished_at.is_(None))
        .group_by(Job.model)
        .order_by(Job.model)
    ).all()
    return [_queue_depth(connection, row.model, int(row.queued), int(row.running)) for row in rows]


def _queue_depth(connection: Connection, model: str, queued: int, running: int) -> QueueDepth:
    dispatched, oldest_dispatched, present = connection.execute(
        select(func.count(Item.id), func.min(Item.created_at), now()).where(
            in_state(ItemState.QUEUED), Item.dispatched_at.is_not(None), Item.model == model
        )
    ).one()
    oldest_undispatched = connection.execute(select(func.min(_first_of_each_priority(model).c.created_at))).scalar()
    oldest = min((time for time in (oldest_dispatched, oldest_undispatched) if time is not None), default=None)
    return QueueDepth(
        model=model,
        queued=queued,
        dispatched=dispatched,
        running=running,
        oldest_seconds=None if oldest is None else _seconds(oldest, present),
    )


def _first_of_each_priority(model: str) -> Any:
    """The item each priority would send next: an index probe each."""
    firsts = [
        select(Item.created_at)
        .where(
            in_state(ItemState.QUEUED),
            Item.dispatched_at.is_(None),
            Item.not_before.is_(None),
            Item.model == model,
            pinned(Item.priority, priority),
        )
        .order_by(Item.priority.desc(), Item.id)
        .limit(1)
        .subquery()
        for priority in range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1)
    ]
    return union_all(*(select(first.c.created_at) for first in firsts)).subquery()


def _seconds(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())


#: What a job's record is made of.
JOBS: Select[*tuple[Any, ...]] = select(
    Job.id,
    Job.owner,
    Job.model,
    Job.priority,
    Job.options,
    Job.labels,
    Job.idempotency_key,
    Job.webhook,
    Job.total,
    Job.queued,
    Job.running,
    Job.succeeded,
    Job.failed,
    Job.cancelled,
    Job.tokens,
    Job.created_at,
    Job.closed_at,
    Job.started_at,
    Job.finished_at,
    Job.cancelled_at,
    now().label("measured_at"),
)

_ITEMS: Select[*tuple[Any, ...]] = select(
    Item.id.label("item_id"),
    Item.job_id,
    Item.position,
    Item.source,
    Item.kind.label("asked_kind"),
    Item.state,
    Item.attempt,
    Item.lease_owner,
    Item.not_before,
    Item.error_code,
    Item.error_message,
    Item.timings,
    Item.created_at.label("item_created_at"),
    Item.started_at,
    Item.finished_at,
    *EMBEDDING_COLUMNS,
).outerjoin(Embedding, Embedding.id == Item.embedding_id)


def _has_label(connection: Connection, name: str, value: str) -> Any:
    if connection.dialect.name == "postgresql":
        # The one spelling that finds the index.
        return Job.labels.op("@>")(literal({name: value}, JSONB))
    return Job.labels[name].as_string() == value


def _has_state(state: JobState) -> Any:
    """The condition that _job_state answers with `state`."""
    done = Job.succeeded + Job.failed + Job.cancelled
    closed = and_(Job.cancelled_at.is_(None), Job.closed_at.is_not(None))
    match state:
        case JobState.CANCELLED:
            return Job.cancelled_at.is_not(None)
        case JobState.OPEN:
            return and_(Job.cancelled_at.is_(None), Job.closed_at.is_(None))
        case JobState.FINISHED:
            return and_(closed, Job.finished_at.is_not(None))
        case JobState.RUNNING:
            return and_(closed, Job.finished_at.is_(None), or_(Job.running > 0, done > 0))
        case JobState.QUEUED:
            return and_(closed, Job.finished_at.is_(None), Job.running == 0, done == literal(0))


def _job_state(row: Any) -> JobState:
    if row.cancelled_at is not None:
        return JobState.CANCELLED
    if row.closed_at is None:
        return JobState.OPEN
    if row.finished_at is not None:
        return JobState.FINISHED
    started = row.running + row.succeeded + row.failed + row.cancelled > 0
    return JobState.RUNNING if started else JobState.QUEUED


def job_record(row: Any) -> JobRecord:
    """From a row of JOBS."""
    progress = JobProgress(
        job_id=row.id,
        state=_job_state(row),
        total=row.total,
        queued=row.queued,
        running=row.running,
        succeeded=row.succeeded,
        failed=row.failed,
        cancelled=row.cancelled,
        tokens=row.tokens,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        measured_at=row.measured_at,
    )
    return JobRecord(
        id=row.id,
        owner=row.owner,
        model=row.model,
        priority=row.priority,
        options=row.options,
        labels=row.labels,
        idempotency_key=row.idempotency_key,
        webhook=row.webhook,
        closed_at=row.closed_at,
        cancelled_at=row.cancelled_at,
        progress=progress,
    )


def _item_record(row: Row[*tuple[Any, ...]]) -> ItemRecord:
    return ItemRecord(
        id=row.item_id,
        job_id=row.job_id,
        position=row.position,
        source=row.source,
        kind=MediaKind(row.asked_kind),
        state=ItemState(row.state),
        attempt=row.attempt,
        lease_owner=row.lease_owner,
        not_before=row.not_before,
        error_code=row.error_code,
        error_message=row.error_message,
        timings=row.timings or {},
        created_at=row.item_created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        embedding=None if row.id is None else embedding_record(row),
    )
