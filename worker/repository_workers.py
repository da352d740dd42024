"""Workers as they say they are, and the chores that one of them at a time does."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.clock import now, now_plus
from worker.records import Heartbeat, WorkerRecord
from worker.tables import Chore, Worker

#: Silence after which a worker is taken for dead, and after which it is forgotten.
_ALIVE_SECONDS = 60
_REMEMBERED_SECONDS = 86_400


def heartbeat(connection: Connection, beat: Heartbeat) -> None:
    """Store what a worker says of itself."""
    said = {name: getattr(beat, name) for name in ("model", "device", "dtype", "held", "finished", "tokens")}
    # Written each time: a container's first process has the same name after every restart.
    values = {**said, "started_at": now_plus(-beat.age_seconds), "seen_at": now()}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(Worker).values(name=beat.name, **values).on_conflict_do_update(index_elements=[Worker.name], set_=values)
    )


def remove_worker(connection: Connection, name: str) -> None:
    """A worker that stopped in order, or none."""
    connection.execute(delete(Worker).where(Worker.name == name))


def forget_workers(connection: Connection) -> None:
    """Workers that ended without a word, a day later."""
    connection.execute(delete(Worker).where(Worker.seen_at <= now_plus(-_REMEMBERED_SECONDS)))


def list_workers(connection: Connection) -> list[WorkerRecord]:
    """Those that were heard of within the last day, by model and name."""
    is_alive = (Worker.seen_at > now_plus(-_ALIVE_SECONDS)).label("is_alive")
    rows = connection.execute(select(*Worker.__table__.columns, is_alive).order_by(Worker.model, Worker.name))
    return [WorkerRecord(**row._mapping) for row in rows]


def begin_chore(connection: Connection, name: str, *, interval_seconds: float) -> bool:
    """Whether a chore is due and the caller is the one to do it; if so it is due again after the interval."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    again = now_plus(interval_seconds)
    begun = (
        insert(Chore)
        .values(name=name, due_at=again)
        .on_conflict_do_update(index_elements=[Chore.name], set_={"due_at": again}, where=Chore.due_at <= now())
        .returning(Chore.name)
    )
    return connection.execute(begun).one_or_none() is not None
