"""Embeddings that nothing needs any more, and what the audit compares with the store.

An embedding goes in three steps: its row is retired, so that nobody finds it; its object is deleted; its row is
deleted. Whoever stops in between leaves a retired row, and the next run goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Exists, delete, exists, or_, select, update

from glm4v_client.states import ItemState
from worker.clock import now, now_plus
from worker.records import EmbeddingRecord
from worker.repository_counters import Shift, shift_jobs
from worker.repository_outcomes import EMBEDDING_COLUMNS, embedding_record
from worker.tables import Embedding, Item, in_state


def retire_embeddings(connection: Connection, *, older_than_seconds: float, limit: int) -> list[EmbeddingRecord]:
    """Retire embeddings that no item referred to for so long. Returns all retired ones, up to `limit`."""
    candidates = connection.execute(
        select(Embedding.id, _referenced().label("referenced"))
        .where(Embedding.released_at <= now_plus(-older_than_seconds), Embedding.retired_at.is_(None))
        .order_by(Embedding.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Embedding)
    ).all()
    still_needed = [row.id for row in candidates if row.referenced]
    connection.execute(update(Embedding).where(Embedding.id.in_(still_needed)).values(released_at=None))
    # Asked again under the lock: an item may have come to refer to it since the rows were read.
    unneeded = [row.id for row in candidates if not row.referenced]
    connection.execute(update(Embedding).where(Embedding.id.in_(unneeded), ~_referenced()).values(retired_at=now()))
    return retired_embeddings(connection, limit=limit)


def retired_embeddings(connection: Connection, *, limit: int) -> list[EmbeddingRecord]:
    """Embeddings whose objects are to be deleted."""
    rows = connection.execute(
        select(*EMBEDDING_COLUMNS)
        .where(Embedding.released_at.is_not(None), Embedding.retired_at.is_not(None), ~_referenced())
        .order_by(Embedding.released_at)
        .limit(limit)
    )
    return [embedding_record(row) for row in rows]


def remove_retired(connection: Connection, embedding_ids: Sequence[int]) -> int:
    """Delete the rows of retired embeddings, once their objects are gone."""
    retired = Embedding.id.in_(embedding_ids) & Embedding.retired_at.is_not(None) & ~_referenced()
    return connection.execute(delete(Embedding).where(retired)).rowcount


def embeddings_after(connection: Connection, embedding_id: int, *, limit: int) -> list[EmbeddingRecord]:
    """Embeddings that are in use or may be, by id, a page at a time."""
    rows = connection.execute(
        select(*EMBEDDING_COLUMNS)
        .where(Embedding.id > embedding_id, or_(Embedding.retired_at.is_(None), _referenced()))
        .order_by(Embedding.id)
        .limit(limit)
    )
    return [embedding_record(row) for row in rows]


def known_objects(connection: Connection, object_keys: Sequence[str]) -> set[str]:
    """Those of the keys that a row names, a retired one included."""
    return set(connection.execute(select(Embedding.object_key).where(Embedding.object_key.in_(object_keys))).scalars())


def retire_lost(connection: Connection, embedding_id: int) -> None:
    """Retire an embedding whose object is lost, so that no further item comes to refer to it."""
    values = {"retired_at": now(), "released_at": now()}
    connection.execute(update(Embedding).where(Embedding.id == embedding_id).values(values))


def requeue_items(connection: Connection, embedding_id: int) -> int:
    """Queue the items of a retired embedding again. Returns how many."""
    items = connection.execute(
        select(Item.id, Item.job_id, Embedding.num_tokens)
        .join(Embedding, Embedding.id == Item.embedding_id)
        .where(Item.embedding_id == embedding_id, in_state(ItemState.SUCCEEDED))
        .order_by(Item.id)
        .with_for_update(of=Item)
    ).all()
    connection.execute(update(Item).where(Item.id.in_([item.id for item in items])).values(_RECOMPUTED_VALUES))
    shifts: dict[UUID, Shift] = defaultdict(Shift)
    for item in items:
        shifts[item.job_id].move(1, from_=ItemState.SUCCEEDED, to=ItemState.QUEUED)
        shifts[item.job_id].tokens -= item.num_tokens
    shift_jobs(connection, shifts)
    return len(items)


_RECOMPUTED_VALUES = {
    "state": ItemState.QUEUED.value,
    "attempt": 0,
    "suspect": False,
    "embedding_id": None,
    "finished_at": None,
}


def _referenced() -> Exists:
    return exists().where(Item.embedding_id == Embedding.id)
