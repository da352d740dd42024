"""Dispatch, claims and leases: how a queued item reaches one worker and stays its own."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, func, or_, select, update

from glm4v_client.states import ItemState, MediaKind
from worker.clock import now, now_plus
from worker.records import ClaimedItem, DispatchedItem, Renewal
from worker.repository_counters import Shift, shift_jobs
from worker.tables import Item, Job, in_state, pinned


def dispatch(connection: Connection, model: str, *, window_items: int, limit: int) -> list[DispatchedItem]:
    """Mark the next items of a queue as sent, as far as the window of sent and unclaimed ones has room."""
    items: list[DispatchedItem] = []
    while more := _dispatch_highest(connection, model, window_items=window_items, limit=limit - len(items)):
        items += more
    return items


def _dispatch_highest(connection: Connection, model: str, *, window_items: int, limit: int) -> list[DispatchedItem]:
    """Those of the highest priority that waits."""
    waiting = (in_state(ItemState.QUEUED), Item.dispatched_at.is_(None), Item.not_before.is_(None), Item.model == model)
    priority = connection.execute(
        select(Item.priority).where(*waiting).order_by(Item.priority.desc(), Item.id).limit(1)
    ).scalar_one_or_none()
    if priority is None:
        return []
    # Of at least its own priority: a window full of what can wait must not keep out what cannot.
    outstanding = connection.execute(
        select(func.count()).where(
            in_state(ItemState.QUEUED),
            Item.dispatched_at.is_not(None),
            Item.model == model,
            Item.priority >= priority,
        )
    ).scalar_one()
    room = min(window_items - outstanding, limit)
    if room <= 0:
        return []
    of_priority = select(Item.id).where(*waiting, pinned(Item.priority, priority))
    next_ones = of_priority.order_by(Item.priority.desc(), Item.id).limit(room)
    rows = connection.execute(
        update(Item)
        .where(Item.id.in_(locked(next_ones)))
        .values(dispatched_at=now())
        .returning(Item.id, Item.priority, Item.suspect)
    )
    items = [DispatchedItem(id=row.id, priority=row.priority, suspect=row.suspect) for row in rows]
    return sorted(items, key=lambda item: item.id)


def undispatch(connection: Connection, item_ids: Sequence[int]) -> None:
    """Take back the mark of items whose message could not be sent."""
    waiting = select(Item.id).where(Item.id.in_(item_ids), in_state(ItemState.QUEUED)).order_by(Item.id)
    connection.execute(update(Item).where(Item.id.in_(locked(waiting))).values(dispatched_at=None))


def claim(
    connection: Connection, item_ids: Sequence[int], *, worker: str, lease_seconds: float, suspects: bool
) -> list[ClaimedItem]:
    """Take those items that wait and are due; the attempt counts from here, before any byte of theirs is touched."""
    # Unique to this claim: a given back attempt is not counted, so its number alone may come again.
    owner = f"{worker}/{uuid.uuid4().hex[:12]}"
    ready = (
        select(Item.id)
        .join(Job, Job.id == Item.job_id)
        .where(
            Item.id.in_(item_ids),
            in_state(ItemState.QUEUED),
            or_(Item.not_before.is_(None), Item.not_before <= now()),
            Job.cancelled_at.is_(None),
        )
        .order_by(Item.id)
    )
    if not suspects:
        ready = ready.where(Item.suspect.is_(False))
    rows = connection.execute(
        update(Item)
        .where(Item.id.in_(locked(ready)))
        .values(
            state=ItemState.RUNNING.value,
            attempt=Item.attempt + 1,
            lease_owner=owner,
            lease_expires_at=now_plus(lease_seconds),
            not_before=None,
            dispatched_at=None,
            started_at=now(),
            finished_at=None,
        )
        .returning(*_CLAIMED_COLUMNS)
    ).all()
    return _claimed(rows, _count_claims(connection, rows))


def renew(connection: Connection, items: Sequence[ClaimedItem], *, lease_seconds: float) -> Renewal:
    """Prolong leases, and say which were lost and which belong to cancelled jobs."""
    owners = {item.lease_owner for item in items}
    mine = (
        select(Item.id)
        .where(
            Item.id.in_([item.id for item in items]), in_state(ItemState.RUNNING), Item.lease_owner.in_(sorted(owners))
        )
        .order_by(Item.id)
    )
    rows = connection.execute(
        update(Item)
        .where(Item.id.in_(locked(mine, skip=False)))
        .values(lease_expires_at=now_plus(lease_seconds))
        .returning(Item.id, Item.job_id)
    ).all()
    cancelled = set(
        connection.execute(
            select(Job.id).where(Job.id.in_({row.job_id for row in rows}), Job.cancelled_at.is_not(None))
        ).scalars()
    )
    return Renewal(
        held=frozenset(row.id for row in rows),
        cancelled=frozenset(row.id for row in rows if row.job_id in cancelled),
    )


def locked(rows: Select[int], *, skip: bool = True) -> Select[int]:
    """The ids of a selection, locked on the way; rows that another transaction has locked are left out if `skip`.

    A common table expression, because Postgres may run a plain subselect several times and lock other rows each time.
    """
    chosen = rows.with_for_update(skip_locked=skip, of=Item).cte("chosen")
    return select(chosen.c.id)


_CLAIMED_COLUMNS = (
    Item.id,
    Item.job_id,
    Item.position,
    Item.source,
    Item.kind,
    Item.model,
    Item.options,
    Item.attempt,
    Item.lease_owner,
    Item.suspect,
    Item.created_at,
)


def _count_claims(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> dict[UUID, Mapping[str, Any]]:
    """Count the items of each job as running. Returns the jobs' options."""
    shifts: dict[UUID, Shift] = defaultdict(Shift)
    for row in rows:
        shifts[row.job_id].move(1, from_=ItemState.QUEUED, to=ItemState.RUNNING)
    return {job.id: job.options for job in shift_jobs(connection, shifts)}


def _claimed(rows: Sequence[Row[*tuple[Any, ...]]], options: Mapping[UUID, Mapping[str, Any]]) -> list[ClaimedItem]:
    items = [
        ClaimedItem(
            id=row.id,
            job_id=row.job_id,
            position=row.position,
            source=row.source,
            kind=MediaKind(row.kind),
            model=row.model,
            options={**options[row.job_id], **(row.options or {})},
            attempt=row.attempt,
            lease_owner=row.lease_owner,
            suspect=row.suspect,
            created_at=row.created_at,
        )
        for row in rows
    ]
    return sorted(items, key=lambda item: item.id)
