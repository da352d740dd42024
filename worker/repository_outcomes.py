"""What became of running items: many outcomes in one transaction, each fenced by its lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from glm4v_client.states import ItemState, MediaKind
from worker.records import EmbeddingRecord, Failed, Outcome, Recorded, Released, Retry, Succeeded
from worker.repository_counters import Transition, apply
from worker.tables import Embedding, Item

#: The same content under the same fingerprint has the same tokens: what `find_embeddings` goes by.
Content = tuple[str, str]


def record(connection: Connection, outcomes: Sequence[Outcome]) -> Recorded:
    """Store the outcomes that still count; see Repository.record."""
    rows = _fenced_rows(connection, outcomes)
    held = [outcome for outcome in outcomes if _holds(rows.get(outcome.item.id))]
    successes = [outcome for outcome in held if isinstance(outcome, Succeeded)]
    stored = _store_embeddings(connection, successes)
    vanished = {one.item.id for one in successes if _content(one.embedding) not in stored}
    apply(connection, [_transition(outcome, stored) for outcome in held])
    return Recorded(
        accepted=frozenset(rows) - vanished,
        unused_objects=_unused_objects(connection, outcomes),
    )


def find_embeddings(connection: Connection, contents: Iterable[Content]) -> dict[Content, EmbeddingRecord]:
    """The stored embeddings among these."""
    rows = connection.execute(
        select(*EMBEDDING_COLUMNS).where(
            tuple_(Embedding.content_sha256, Embedding.fingerprint).in_(sorted(set(contents))),
            Embedding.retired_at.is_(None),
        )
    )
    return {(row.content_sha256, row.fingerprint): embedding_record(row) for row in rows}


EMBEDDING_COLUMNS = (
    Embedding.id,
    Embedding.content_sha256,
    Embedding.fingerprint,
    Embedding.kind,
    Embedding.object_key,
    Embedding.grid_thw,
    Embedding.timestamps,
    Embedding.frame_indices,
    Embedding.num_tokens,
    Embedding.dim,
    Embedding.dtype,
    Embedding.byte_size,
    Embedding.object_sha256,
    Embedding.created_at,
)


def embedding_record(row: Row[*tuple[Any, ...]]) -> EmbeddingRecord:
    """From a row that has at least EMBEDDING_COLUMNS."""
    frames, height, width = row.grid_thw
    return EmbeddingRecord(
        id=row.id,
        content_sha256=row.content_sha256,
        fingerprint=row.fingerprint,
        kind=MediaKind(row.kind),
        object_key=row.object_key,
        grid_thw=(frames, height, width),
        timestamps=None if row.timestamps is None else tuple(row.timestamps),
        frame_indices=None if row.frame_indices is None else tuple(row.frame_indices),
        num_tokens=row.num_tokens,
        dim=row.dim,
        dtype=row.dtype,
        byte_size=row.byte_size,
        object_sha256=row.object_sha256,
        created_at=row.created_at,
    )


def _fenced_rows(connection: Connection, outcomes: Sequence[Outcome]) -> dict[int, Row[*tuple[Any, ...]]]:
    """The items whose last lease is the outcome's own, locked.

    Those among them that run no more were recorded before: a commit whose answer was lost is sent again.
    """
    leases = {outcome.item.id: outcome.item.lease_owner for outcome in outcomes}
    rows = connection.execute(
        select(Item.id, Item.state, Item.lease_owner)
        .where(Item.id.in_(sorted(leases)))
        .order_by(Item.id)
        .with_for_update()
    )
    return {row.id: row for row in rows if row.lease_owner == leases[row.id]}


def _holds(row: Row[*tuple[Any, ...]] | None) -> bool:
    return row is not None and row.state == ItemState.RUNNING.value


def _store_embeddings(connection: Connection, successes: Sequence[Succeeded]) -> dict[Content, Row[*tuple[Any, ...]]]:
    """The embedding of each content: the one that was first, whoever made it. One that retention took is missing."""
    # Backwards, so that the first of several with one content is the one that stays.
    made = {_content(one.embedding): one.embedding for one in reversed(successes) if one.embedding.id is None}
    if made:
        _insert_embeddings(connection, [made[content] for content in sorted(made)])
    contents = sorted({_content(one.embedding) for one in successes})
    rows = connection.execute(
        select(Embedding.id, Embedding.content_sha256, Embedding.fingerprint, Embedding.released_at)
        .where(
            tuple_(Embedding.content_sha256, Embedding.fingerprint).in_(contents),
            Embedding.retired_at.is_(None),
        )
        .order_by(Embedding.id)
        # Retention must not take it before our items refer to it.
        .with_for_update(read=True, key_share=True)
    ).all()
    _unrelease(connection, [row.id for row in rows if row.released_at is not None])
    return {(row.content_sha256, row.fingerprint): row for row in rows}


def _insert_embeddings(connection: Connection, records: Sequence[EmbeddingRecord]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(Embedding).on_conflict_do_nothing(
        index_elements=[Embedding.content_sha256, Embedding.fingerprint],
        index_where=Embedding.retired_at.is_(None),
    )
    connection.execute(statement, [_embedding_values(record) for record in records])


def _unrelease(connection: Connection, embedding_ids: Sequence[int]) -> None:
    if embedding_ids:
        connection.execute(update(Embedding).where(Embedding.id.in_(embedding_ids)).values(released_at=None))


def _embedding_values(record: EmbeddingRecord) -> dict[str, object]:
    return {
        "content_sha256": record.content_sha256,
        "fingerprint": record.fingerprint,
        "kind": record.kind.value,
        "object_key": record.object_key,
        "grid_thw": list(record.grid_thw),
        "timestamps": None if record.timestamps is None else list(record.timestamps),
        "frame_indices": None if record.frame_indices is None else list(record.frame_indices),
        "num_tokens": record.num_tokens,
        "dim": record.dim,
        "dtype": record.dtype,
        "byte_size": record.byte_size,
        "object_sha256": record.object_sha256,
    }


def _transition(outcome: Outcome, stored: Mapping[Content, Row[*tuple[Any, ...]]]) -> Transition:
    item = outcome.item
    match outcome:
        case Succeeded(embedding=embedding, timings=timings) if _content(embedding) in stored:
            return Transition(
                item_id=item.id,
                job_id=item.job_id,
                to=ItemState.SUCCEEDED,
                embedding_id=stored[_content(embedding)].id,
                num_tokens=embedding.num_tokens,
                timings=timings,
            )
        case Failed(code=code, message=message, timings=timings):
            return Transition(
                item_id=item.id,
                job_id=item.job_id,
                to=ItemState.FAILED,
                error_code=code,
                error_message=message,
                timings=timings,
            )
        case Retry(code=code, message=message, delay_seconds=delay, timings=timings, charged=charged):
            return Transition(
                item_id=item.id,
                job_id=item.job_id,
                to=ItemState.QUEUED,
                refund=not charged,
                delay_seconds=delay,
                error_code=code,
                error_message=message,
                timings=timings,
            )
        case Released() | Succeeded():
            # A success whose embedding retention took meanwhile is computed again, at nobody's charge.
            return Transition(
                item_id=item.id, job_id=item.job_id, to=ItemState.QUEUED, refund=True, suspect=item.suspect
            )


def _unused_objects(connection: Connection, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Objects that these attempts made and no row names: somebody else was first, or the lease was lost."""
    made = [one.embedding.object_key for one in outcomes if isinstance(one, Succeeded) and one.embedding.id is None]
    if not made:
        return ()
    used = set(connection.execute(select(Embedding.object_key).where(Embedding.object_key.in_(made))).scalars())
    return tuple(key for key in made if key not in used)


def _content(record: EmbeddingRecord) -> Content:
    return record.content_sha256, record.fingerprint
