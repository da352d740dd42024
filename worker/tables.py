"""The tables. `items` is the queue; `jobs` counts it; `embeddings` says what is stored.

`webhook_deliveries` are the attempts at telling that a job has ended, `workers` says who embeds, and `chores` when
something is done next that is done by one worker at a time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    Uuid,
    false,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, mapped_column

from glm4v_client.states import ItemState
from worker.clock import UtcDateTime, now

#: SQLite numbers its rows only where the type is INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

#: Without these Postgres would clean up after a fifth of the table changed: millions of dead rows in front of a queue.
VACUUM = {"autovacuum_vacuum_scale_factor": 0.01, "autovacuum_vacuum_threshold": 5000}


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s",
            "uq": "%(table_name)s_%(column_0_N_name)s",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_name)s",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: Json, UUID: Uuid()}  # noqa: RUF012


#: The job has ended, and its webhook does not know: `webhook_settled_at` is the end that it was told of last.
WEBHOOK_DUE = (
    "webhook IS NOT NULL AND finished_at IS NOT NULL"
    " AND (webhook_settled_at IS NULL OR webhook_settled_at <> finished_at)"
)


class Job(Table):
    """One submission. Its counters always equal its items' states: both change in one transaction."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        CheckConstraint("total = queued + running + succeeded + failed + cancelled", name="counters"),
        Index("jobs_idempotency", "owner", "idempotency_key", unique=True),
        Index("jobs_owner", "owner", "id"),
        # What the reconciler and the queue depths look through: as short as the work at hand.
        Index(
            "jobs_unfinished",
            "model",
            postgresql_where=text("finished_at IS NULL"),
            sqlite_where=text("finished_at IS NULL"),
        ),
        Index("jobs_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}).ddl_if(
            dialect="postgresql"
        ),
        Index(
            "jobs_webhook_due",
            "webhook_due_at",
            "id",
            postgresql_where=text(WEBHOOK_DUE),
            sqlite_where=text(WEBHOOK_DUE),
        ),
        {"postgresql_with": {"fillfactor": 50, **VACUUM}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(SmallInteger)
    options: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    queued: Mapped[int] = mapped_column(BigInteger, server_default="0")
    running: Mapped[int] = mapped_column(BigInteger, server_default="0")
    succeeded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cancelled: Mapped[int] = mapped_column(BigInteger, server_default="0")
    tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=now())
    closed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    webhook: Mapped[str | None] = mapped_column(Text)
    # The next attempt, or the end of the lease of the one under way; null: at once.
    webhook_due_at: Mapped[datetime | None]
    # The value of finished_at that the webhook was told of, or that was given up.
    webhook_settled_at: Mapped[datetime | None]


class Embedding(Table):
    """A stored artefact. It is unreferenced since `released_at`, and its object is being deleted since `retired_at`."""

    __tablename__ = "embeddings"
    __table_args__ = (
        Index(
            "embeddings_content",
            "content_sha256",
            "fingerprint",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
            sqlite_where=text("retired_at IS NULL"),
        ),
        Index("embeddings_object_key", "object_key", unique=True),
        Index(
            "embeddings_released",
            "released_at",
            postgresql_where=text("released_at IS NOT NULL"),
            sqlite_where=text("released_at IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    content_sha256: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(Text)
    object_key: Mapped[str] = mapped_column(Text)
    grid_thw: Mapped[list[int]] = mapped_column(Json)
    timestamps: Mapped[list[float] | None] = mapped_column(Json)
    frame_indices: Mapped[list[int] | None] = mapped_column(Json)
    num_tokens: Mapped[int] = mapped_column(BigInteger)
    dim: Mapped[int]
    dtype: Mapped[str] = mapped_column(Text)
    byte_size: Mapped[int] = mapped_column(BigInteger)
    object_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(server_default=now())
    released_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]


UNDISPATCHED = "state = 'queued' AND dispatched_at IS NULL AND not_before IS NULL"
DISPATCHED = "state = 'queued' AND dispatched_at IS NOT NULL"
DELAYED = "state = 'queued' AND not_before IS NOT NULL"
LEASED = "state = 'running'"


class Item(Table):
    """One reference and its way through the states. The small partial indexes are the queue itself: each holds only
    the rows that wait for one thing, so that finding them costs the same in a table of thousands and of millions."""

    __tablename__ = "items"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"),
        Index("items_job", "job_id", "state", "id"),
        Index(
            "items_undispatched",
            "model",
            text("priority DESC"),
            "id",
            postgresql_where=text(UNDISPATCHED),
            sqlite_where=text(UNDISPATCHED),
        ),
        Index(
            "items_dispatched",
            "model",
            "dispatched_at",
            postgresql_where=text(DISPATCHED),
            sqlite_where=text(DISPATCHED),
        ),
        Index("items_delayed", "not_before", postgresql_where=text(DELAYED), sqlite_where=text(DELAYED)),
        Index("items_leased", "lease_expires_at", postgresql_where=text(LEASED), sqlite_where=text(LEASED)),
        Index(
            "items_embedding",
            "embedding_id",
            postgresql_where=text("embedding_id IS NOT NULL"),
            sqlite_where=text("embedding_id IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True, "postgresql_with": VACUUM},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    options: Mapped[dict[str, Any] | None]
    # The job's model and priority never change; here they let one index scan find the next items of a queue.
    model: Mapped[str] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(Text, server_default=ItemState.QUEUED.value)
    attempt: Mapped[int] = mapped_column(server_default="0")
    suspect: Mapped[bool] = mapped_column(server_default=false())
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    embedding_id: Mapped[int | None] = mapped_column(BigId, ForeignKey("embeddings.id"))
    timings: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class WebhookDelivery(Table):
    """One attempt at telling a webhook that its job has ended; while `seconds` is null it is under way, or was lost."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("webhook_deliveries_attempt", "job_id", "ended_at", "attempt", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    # The job's finished_at: a job whose failed items are retried ends again.
    ended_at: Mapped[datetime]
    attempt: Mapped[int]
    sent_at: Mapped[datetime] = mapped_column(server_default=now())
    seconds: Mapped[float | None] = mapped_column(Float)
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)


class Worker(Table):
    """A process that embeds, as it last said of itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    held: Mapped[int] = mapped_column(BigInteger)
    finished: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)


class Chore(Table):
    """Something that one worker at a time does, now and then: whoever moves `due_at` on may do it."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    due_at: Mapped[datetime]


def in_state(state: ItemState) -> Any:
    """The condition on an item's state, spelt out in the SQL: a parameter would hide it from the partial indexes."""
    return Item.state == literal_column(f"'{state.value}'")


def pinned(column: InstrumentedAttribute[Any], value: object) -> Any:
    """The condition that a column equals a value, written as a range.

    With an equality Postgres knows that the column does not matter for the order. It may then walk the primary key in
    the hope of meeting such rows soon, and read millions of others first. Ordered by the column too, only the index
    that has it will do.
    """
    return column.between(value, value)
