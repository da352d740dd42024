"""What must be true after any scenario, whatever failed in the middle of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, select

from glm4v_client.states import ItemState
from worker.audit import Audit, Fault
from worker.records import JobProgress
from worker.repository import Repository
from worker.storage import Storage
from worker.tables import Embedding, Item


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a reference."""

    state: ItemState
    error_code: str | None
    object_sha256: str | None


def read_results(engine: Engine, job_id: UUID) -> dict[str, Result]:
    """By reference. Fails when one of them has more than one row."""
    rows = _items(engine, job_id)
    assert not [source for source, rows_of_it in Counter(row.source for row in rows).items() if rows_of_it > 1]
    return {
        row.source: Result(state=ItemState(row.state), error_code=row.error_code, object_sha256=row.object_sha256)
        for row in rows
    }


def check(engine: Engine, storage: Storage, job_id: UUID, *, expected: Mapping[str, Result]) -> None:
    """Every reference came to the end that it comes to in one undisturbed process; rows, counters and objects agree."""
    results = read_results(engine, job_id)
    assert results.keys() == expected.keys(), "items were lost or invented"
    differing = {source: (result, expected[source]) for source, result in results.items() if result != expected[source]}
    assert not differing, f"{len(differing)} items came to another end: {dict(list(differing.items())[:5])}"
    repository = Repository(engine)
    _check_counters(repository.get_job(job_id).progress, _items(engine, job_id))
    _check_objects(repository, storage)


def _check_counters(progress: JobProgress, rows: Sequence[Row[Any]]) -> None:
    states = Counter(row.state for row in rows)
    counted = {state.value: getattr(progress, state.value) for state in ItemState}
    assert counted == {state.value: states[state.value] for state in ItemState}
    assert progress.total == len(rows)
    assert progress.tokens == sum(row.num_tokens or 0 for row in rows)


def _check_objects(repository: Repository, storage: Storage) -> None:
    """Every embedding's object is there and whole, and after the audit there is no other."""
    audit = Audit(repository=repository, storage=storage, mend=True, digests=True, stray_age_seconds=0)
    # A worker that was killed between storing and recording leaves an object that no row names; nothing else is amiss.
    assert {finding.fault for finding in audit.run()} <= {Fault.STRAY}
    assert list(audit.run()) == []


def _items(engine: Engine, job_id: UUID) -> Sequence[Row[Any]]:
    with engine.connect() as connection:
        return connection.execute(
            select(
                Item.source, Item.state, Item.attempt, Item.error_code, Embedding.object_sha256, Embedding.num_tokens
            )
            .outerjoin(Embedding, Embedding.id == Item.embedding_id)
            .where(Item.job_id == job_id)
        ).all()
