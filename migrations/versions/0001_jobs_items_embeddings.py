"""Jobs, items and embeddings.

Revision: 0001, the first
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
TIME = sa.DateTime(timezone=True)
VACUUM = {"autovacuum_vacuum_scale_factor": 0.01, "autovacuum_vacuum_threshold": 5000}


def upgrade() -> None:
    create_jobs()
    create_embeddings()
    create_items()


def downgrade() -> None:
    op.drop_table("items")
    op.drop_table("embeddings")
    op.drop_table("jobs")


def create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        *(counter(name) for name in ("total", "queued", "running", "succeeded", "failed", "cancelled", "tokens")),
        created_at(),
        sa.Column("closed_at", TIME),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("cancelled_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("jobs_priority")),
        sa.CheckConstraint("total = queued + running + succeeded + failed + cancelled", name=op.f("jobs_counters")),
        postgresql_with={"fillfactor": 50, **VACUUM},
    )
    op.create_index("jobs_idempotency", "jobs", ["owner", "idempotency_key"], unique=True)
    op.create_index("jobs_owner", "jobs", ["owner", "id"])
    create_partial_index("jobs_unfinished", "jobs", ["model"], where="finished_at IS NULL")


def create_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("grid_thw", JSON, nullable=False),
        sa.Column("timestamps", JSON),
        sa.Column("frame_indices", JSON),
        sa.Column("num_tokens", sa.BigInteger, nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("dtype", sa.Text, nullable=False),
        sa.Column("byte_size", sa.BigInteger, nullable=False),
        sa.Column("object_sha256", sa.String(64), nullable=False),
        created_at(),
        sa.Column("released_at", TIME),
        sa.Column("retired_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("embeddings_pkey")),
        sqlite_autoincrement=True,
    )
    create_partial_index(
        "embeddings_content", "embeddings", ["content_sha256", "fingerprint"], where="retired_at IS NULL", unique=True
    )
    op.create_index("embeddings_object_key", "embeddings", ["object_key"], unique=True)
    create_partial_index("embeddings_released", "embeddings", ["released_at"], where="released_at IS NOT NULL")


def create_items() -> None:
    op.create_table(
        "items",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("options", JSON),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="queued"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("suspect", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_expires_at", TIME),
        sa.Column("not_before", TIME),
        sa.Column("dispatched_at", TIME),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("embedding_id", BIG_ID),
        sa.Column("timings", JSON),
        created_at(),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("items_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["embedding_id"], ["embeddings.id"], name=op.f("items_embedding_id")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("items_state")
        ),
        sqlite_autoincrement=True,
        postgresql_with=VACUUM,
    )
    op.create_index("items_job", "items", ["job_id", "state", "id"])
    create_partial_index(
        "items_undispatched",
        "items",
        ["model", sa.text("priority DESC"), "id"],
        where="state = 'queued' AND dispatched_at IS NULL AND not_before IS NULL",
    )
    create_partial_index(
        "items_dispatched", "items", ["model", "dispatched_at"], where="state = 'queued' AND dispatched_at IS NOT NULL"
    )
    create_partial_index("items_delayed", "items", ["not_before"], where="state = 'queued' AND not_before IS NOT NULL")
    create_partial_index("items_leased", "items", ["lease_expires_at"], where="state = 'running'")
    create_partial_index("items_embedding", "items", ["embedding_id"], where="embedding_id IS NOT NULL")


def counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def created_at() -> sa.Column[object]:
    sqlite = op.get_bind().dialect.name == "sqlite"
    now = "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))" if sqlite else "now()"
    return sa.Column("created_at", TIME, nullable=False, server_default=sa.text(now))


def create_partial_index(
    name: str, table: str, columns: list[str | sa.TextClause], *, where: str, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
