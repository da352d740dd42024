"""The one way in which items change state: the rows and their jobs' counters together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Connection, Float, Row, and_, bindparam, case, func, update

from glm4v_client.states import ItemState
from worker.clock import now, now_plus
from worker.tables import Item, Job

TERMINAL = frozenset({ItemState.SUCCEEDED, ItemState.FAILED, ItemState.CANCELLED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One running item's next state."""

    item_id: int
    job_id: UUID
    to: ItemState
    refund: bool = False  #: the attempt is not charged
    suspect: bool = False
    keep_owner: bool = True  #: False: a late result of this lease must not pass for one that was recorded
    delay_seconds: float | None = None  #: of the next attempt
    error_code: str | None = None
    error_message: str | None = None
    embedding_id: int | None = None
    num_tokens: int = 0
    timings: Mapping[str, float] | None = None


@dataclass(slots=True)
class Shift:
    """By how much a job's counters change."""

    counts: dict[ItemState, int] = field(default_factory=lambda: defaultdict(int))
    tokens: int = 0
    total: int = 0

    def move(self, count: int, *, from_: ItemState, to: ItemState) -> None:
        self.counts[from_] -= count
        self.counts[to] += count


def apply(connection: Connection, transitions: Sequence[Transition]) -> None:
    """Move running items, whose rows this transaction has locked, to their next states."""
    if not transitions:
        return
    connection.execute(_MOVE, [_parameters(transition) for transition in transitions])
    shifts: dict[UUID, Shift] = defaultdict(Shift)
    for transition in transitions:
        shifts[transition.job_id].move(1, from_=ItemState.RUNNING, to=transition.to)
        shifts[transition.job_id].tokens += transition.num_tokens
    cancelled = [job.id for job in shift_jobs(connection, shifts) if job.cancelled_at is not None]
    _cancel_requeued(connection, [one for one in transitions if one.job_id in cancelled])


def shift_jobs(connection: Connection, shifts: Mapping[UUID, Shift]) -> list[Row[*tuple[Any, ...]]]:
    """Change jobs' counters; the last statement of its transaction, because it locks rows that others wait for.

    Returns each job's id, options and cancelled_at.
    """
    return [
        row
        for job_id in sorted(shifts)  # one order for all, so that no two transactions wait for each other
        for row in connection.execute(_SHIFT, _shift_parameters(job_id, shifts[job_id]))
    ]


def _cancel_requeued(connection: Connection, transitions: Sequence[Transition]) -> None:
    """Items that went back to the queue of a job that was cancelled meanwhile are cancelled too."""
    shifts: dict[UUID, Shift] = defaultdict(Shift)
    requeued = [one for one in transitions if one.to is ItemState.QUEUED]
    for transition in requeued:
        shifts[transition.job_id].move(1, from_=ItemState.QUEUED, to=ItemState.CANCELLED)
    if requeued:
        ids = [transition.item_id for transition in requeued]
        connection.execute(update(Item).where(Item.id.in_(ids)).values(CANCELLED_VALUES))
        shift_jobs(connection, shifts)


def _parameters(transition: Transition) -> dict[str, object]:
    return {
        "item": transition.item_id,
        "to": transition.to.value,
        "refunded": int(transition.refund),
        "suspected": transition.suspect,
        "keeps_owner": transition.keep_owner,
        "delay": transition.delay_seconds,
        "ends": transition.to in TERMINAL,
        "code": transition.error_code,
        "message": transition.error_message,
        "embedding": transition.embedding_id,
        "times": dict(transition.timings) if transition.timings is not None else None,
    }


def _shift_parameters(job_id: UUID, shift: Shift) -> dict[str, object]:
    counts = {f"d_{state.value}": shift.counts.get(state, 0) for state in ItemState}
    return {"job": job_id, "d_total": shift.total, "d_tokens": shift.tokens, **counts}


#: What an item's row says of a state other than running.
_AT_REST = {"lease_expires_at": None, "dispatched_at": None}

CANCELLED_VALUES: dict[str, Any] = {
    **_AT_REST,
    "state": ItemState.CANCELLED.value,
    "not_before": None,
    "suspect": False,
    "finished_at": now(),
}

_MOVE = (
    update(Item)
    .where(Item.id == bindparam("item"))
    .values(
        **_AT_REST,
        state=bindparam("to"),
        attempt=Item.attempt - bindparam("refunded"),
        suspect=bindparam("suspected"),
        lease_owner=case((bindparam("keeps_owner", type_=Boolean), Item.lease_owner), else_=None),
        not_before=now_plus(bindparam("delay", type_=Float)),
        error_code=bindparam("code"),
        error_message=bindparam("message"),
        embedding_id=bindparam("embedding"),
        timings=bindparam("times"),
        finished_at=case((bindparam("ends", type_=Boolean), now()), else_=None),
    )
)

_QUEUED_AFTER = Job.queued + bindparam("d_queued")
_RUNNING_AFTER = Job.running + bindparam("d_running")

_SHIFT = (
    update(Job)
    .where(Job.id == bindparam("job"))
    .values(
        total=Job.total + bindparam("d_total"),
        queued=_QUEUED_AFTER,
        running=_RUNNING_AFTER,
        succeeded=Job.succeeded + bindparam("d_succeeded"),
        failed=Job.failed + bindparam("d_failed"),
        cancelled=Job.cancelled + bindparam("d_cancelled"),
        tokens=Job.tokens + bindparam("d_tokens"),
        started_at=case((_RUNNING_AFTER > 0, func.coalesce(Job.started_at, now())), else_=Job.started_at),
        finished_at=case(
            (
                and_(Job.closed_at.is_not(None), _QUEUED_AFTER + _RUNNING_AFTER == 0),
                func.coalesce(Job.finished_at, now()),
            ),
            else_=None,
        ),
    )
    .returning(Job.id, Job.options, Job.cancelled_at)
)
