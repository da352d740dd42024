"""Jobs: made, filled with items by the million, closed, cancelled, retried, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from glm4v_client.states import ItemState
from worker.clock import now
from worker.database import transaction
from worker.errors import (
    IdempotencyConflict,
    ItemNotFound,
    JobCancelled,
    JobClosed,
    JobNotFound,
    PositionConflict,
)
from worker.records import NewJob, Source
from worker.repository_counters import CANCELLED_VALUES, Shift, shift_jobs
from worker.tables import Embedding, Item, Job, pinned
from worker.uuid7 import uuid7

#: Rows that one statement changes: its locks and its transaction stay short whatever the size of the job.
BATCH_ROWS = 10_000


class TotalChanged(Exception):  # noqa: N818 - never leaves the repository
    """Somebody else added items to the job meanwhile: the positions are taken."""


def create_job(connection: Connection, job: NewJob) -> tuple[UUID, bool]:
    """Make a job, or find the one that was made with the same idempotency key. Returns whether it is new.

    Raises:
        IdempotencyConflict: the key belongs to a job with other contents.
    """
    values = {
        "owner": job.owner,
        "model": job.model,
        "priority": job.priority,
        "options": dict(job.options),
        "labels": dict(job.labels),
        "idempotency_key": job.idempotency_key,
        "webhook": job.webhook,
    }
    insert_job = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made = connection.execute(
        insert_job(Job)
        .values(id=uuid7(), **values)
        .on_conflict_do_nothing(index_elements=[Job.owner, Job.idempotency_key])
        .returning(Job.id)
    ).scalar_one_or_none()
    if made is not None:
        return made, True
    return _same_job(connection, values), False


def add_batch(
    connection: Connection, job_id: UUID, sources: Sequence[Source], *, first_position: int | None = None
) -> int:
    """Add items to an open job; the job's row is locked only at the end, so that workers go on meanwhile.

    Args:
        first_position: the place of the first of them; those whose places are taken are left out.

    Returns how many were added.

    Raises:
        TotalChanged: try again.
        JobNotFound, JobClosed, JobCancelled: the job takes no items.
        PositionConflict: the first place is beyond the end.
    """
    job = connection.execute(
        # The job must not be deleted meanwhile; its counters may change.
        select(Job.model, Job.priority, Job.total, Job.closed_at, Job.cancelled_at)
        .where(Job.id == job_id)
        .with_for_update(read=True, key_share=True)
    ).one_or_none()
    if job is None:
        raise _not_found(job_id)
    new = sources if first_position is None else _not_there_yet(job, sources, first_position)
    if sources and not new:
        # All were added before: even a job that was closed after them has nothing against hearing it again.
        return 0
    _check_open(job)
    rows = (
        (job_id, position, source.source, source.kind.value, source.options, job.model, job.priority)
        for position, source in enumerate(new, start=job.total)
    )
    insert_items = _copy_items if connection.dialect.name == "postgresql" else _insert_items
    insert_items(connection, rows)
    counted = connection.execute(
        update(Job)
        .where(Job.id == job_id, Job.total == job.total, Job.closed_at.is_(None), Job.cancelled_at.is_(None))
        .values(total=Job.total + len(new), queued=Job.queued + len(new))
    )
    if counted.rowcount == 0:
        raise TotalChanged
    return len(new)


def close_job(connection: Connection, job_id: UUID) -> None:
    """Take no more items. A job without unfinished items is finished by that.

    Raises:
        JobNotFound: there is no such job.
    """
    _require(connection, job_id)
    connection.execute(update(Job).where(Job.id == job_id, Job.closed_at.is_(None)).values(closed_at=now()))
    shift_jobs(connection, {job_id: Shift()})


def flag_cancelled(connection: Connection, job_id: UUID) -> None:
    """Let no further item of a job start. A finished job stays as it is.

    Committed before any item is touched: whoever puts an item back into the queue after that sees the flag, and
    whatever was put back before is seen by `cancel_batch`.

    Raises:
        JobNotFound: there is no such job.
    """
    _require(connection, job_id)
    connection.execute(
        update(Job)
        .where(Job.id == job_id, Job.finished_at.is_(None))
        .values(cancelled_at=func.coalesce(Job.cancelled_at, now()), closed_at=func.coalesce(Job.closed_at, now()))
    )
    shift_jobs(connection, {job_id: Shift()})


def cancel_batch(connection: Connection, job_id: UUID) -> int:
    """Cancel some queued items of a job that is flagged as cancelled. Returns how many; 0 when none is left."""
    flagged = select(Job.id).where(Job.id == job_id, Job.cancelled_at.is_not(None))
    if connection.execute(flagged).one_or_none() is None:
        return 0
    ids = _lock_batch(connection, job_id, ItemState.QUEUED)
    _change_state(connection, job_id, ids, CANCELLED_VALUES, from_=ItemState.QUEUED, to=ItemState.CANCELLED)
    return len(ids)


def cancel_queued(engine: Engine, job_id: UUID) -> int:
    """Cancel all of them, a transaction per batch. Returns how many."""
    count = 0
    while True:
        with transaction(engine) as connection:
            batch = cancel_batch(connection, job_id)
        if not batch:
            return count
        count += batch


def retry_batch(connection: Connection, job_id: UUID, *, error_code: str | None) -> int:
    """Queue some failed items of a job again. Returns how many; 0 when none is left.

    Raises:
        JobNotFound: there is no such job.
        JobCancelled: the job was cancelled.
    """
    job = _require(connection, job_id)
    if job.cancelled_at is not None:
        raise JobCancelled
    ids = _lock_batch(connection, job_id, ItemState.FAILED, error_code)
    _change_state(connection, job_id, ids, _REQUEUED_VALUES, from_=ItemState.FAILED, to=ItemState.QUEUED)
    return len(ids)


def retry_item(connection: Connection, item_id: int) -> bool:
    """Queue one failed item again. Returns False when it has not failed.

    Raises:
        ItemNotFound: there is no such item.
        JobCancelled: its job was cancelled.
    """
    item = connection.execute(
        select(Item.job_id, Item.state, Job.cancelled_at)
        .join(Job, Job.id == Item.job_id)
        .where(Item.id == item_id)
        .with_for_update(of=Item)
    ).one_or_none()
    if item is None:
        raise ItemNotFound(f"there is no item {item_id}: check its id")
    if item.state != ItemState.FAILED.value:
        return False
    if item.cancelled_at is not None:
        raise JobCancelled
    _change_state(connection, item.job_id, [item_id], _REQUEUED_VALUES, from_=ItemState.FAILED, to=ItemState.QUEUED)
    return True


def delete_batch(connection: Connection, job_id: UUID) -> int:
    """Delete some items of a job and note which embeddings lost a reference. Returns how many; 0 when none is left."""
    # Found in the order of their index, locked in the order of their ids, as everywhere.
    batch = select(Item.id).where(Item.job_id == job_id).order_by(Item.state, Item.id).limit(BATCH_ROWS)
    found = select(Item.id).where(Item.id.in_(_ids(connection, batch))).order_by(Item.id).with_for_update()
    ids = _ids(connection, found)
    rows = connection.execute(delete(Item).where(Item.id.in_(ids)).returning(Item.state, Item.embedding_id)).all()
    embeddings = {row.embedding_id for row in rows if row.embedding_id is not None}
    held = select(Embedding.id).where(Embedding.id.in_(sorted(embeddings))).order_by(Embedding.id).with_for_update()
    connection.execute(update(Embedding).where(Embedding.id.in_(_ids(connection, held))).values(released_at=now()))
    shift = Shift(total=-len(rows))
    for row in rows:
        shift.counts[ItemState(row.state)] -= 1
    shift_jobs(connection, {job_id: shift})
    return len(rows)


def delete_empty_job(connection: Connection, job_id: UUID) -> None:
    """The last step of a deletion."""
    connection.execute(delete(Job).where(Job.id == job_id))


def in_batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Cut a stream of any length into lists, holding one at a time."""
    stream = iter(sources)
    while batch := list(islice(stream, BATCH_ROWS)):
        yield batch


#: What makes two requests with one idempotency key the same.
_REQUESTED = ("model", "priority", "options", "labels", "webhook")

_COLUMNS = ("job_id", "position", "source", "kind", "options", "model", "priority")

ItemRow = tuple[UUID, int, str, str, Any, str, int]

_REQUEUED_VALUES: dict[str, Any] = {
    "state": ItemState.QUEUED.value,
    "attempt": 0,
    "suspect": False,
    "not_before": None,
    "dispatched_at": None,
    "finished_at": None,
}


def _copy_items(connection: Connection, rows: Iterable[ItemRow]) -> None:
    """COPY: several times as fast as INSERT."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    statement = f"COPY items ({', '.join(_COLUMNS)}) FROM STDIN".encode()
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for job_id, position, source, kind, options, model, priority in rows:
            as_json = None if options is None else Jsonb(dict(options))
            copy.write_row((job_id, position, source, kind, as_json, model, priority))


def _insert_items(connection: Connection, rows: Iterable[ItemRow]) -> None:
    connection.execute(insert(Item), [dict(zip(_COLUMNS, row, strict=True)) for row in rows])


def _not_found(job_id: UUID) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id}: check its id")


def _check_open(job: Any) -> None:
    if job.cancelled_at is not None:
        raise JobCancelled
    if job.closed_at is not None:
        raise JobClosed


def _not_there_yet(job: Any, sources: Sequence[Source], first_position: int) -> Sequence[Source]:
    """Those that come after the job's last item: an open job's places are taken without a gap."""
    if job.cancelled_at is not None:
        # Its items may be on their way out, and its total with them.
        raise JobCancelled
    if first_position > job.total:
        raise PositionConflict(
            f"the job has {job.total:,} items, these begin at position {first_position:,}: add those in between first"
        )
    return sources[job.total - first_position :]


def _require(connection: Connection, job_id: UUID) -> Any:
    job = connection.execute(select(Job.cancelled_at, Job.closed_at).where(Job.id == job_id)).one_or_none()
    if job is None:
        raise _not_found(job_id)
    return job


def _same_job(connection: Connection, values: dict[str, Any]) -> UUID:
    job = connection.execute(
        select(Job.id, *(getattr(Job, name) for name in _REQUESTED)).where(
            Job.owner == values["owner"], Job.idempotency_key == values["idempotency_key"]
        )
    ).one()
    differing = [name for name in _REQUESTED if getattr(job, name) != values[name]]
    if differing:
        raise IdempotencyConflict(
            f"the idempotency key was used for job {job.id} with another {' and '.join(differing)}: use a new key"
        )
    return job.id


def _lock_batch(connection: Connection, job_id: UUID, state: ItemState, error_code: str | None = None) -> list[int]:
    rows = select(Item.id).where(Item.job_id == job_id, pinned(Item.state, state.value))
    if error_code is not None:
        rows = rows.where(Item.error_code == error_code)
    return _ids(connection, rows.order_by(Item.state, Item.id).limit(BATCH_ROWS).with_for_update())


def _ids(connection: Connection, rows: Select[int]) -> list[int]:
    return list(connection.execute(rows).scalars())


def _change_state(
    connection: Connection,
    job_id: UUID,
    ids: Sequence[int],
    values: dict[str, Any],
    *,
    from_: ItemState,
    to: ItemState,
) -> None:
    """Move locked items that do not run from one state to another."""
    if not ids:
        return
    connection.execute(update(Item).where(Item.id.in_(ids)).values(values))
    shift = Shift()
    shift.move(len(ids), from_=from_, to=to)
    shift_jobs(connection, {job_id: shift})
