"""Webhooks, workers and chores; labels that can be searched.

Adds only what the version before does without: its workers go on while this runs, and after it.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)
WEBHOOK_DUE = (
    "webhook IS NOT NULL AND finished_at IS NOT NULL"
    " AND (webhook_settled_at IS NULL OR webhook_settled_at <> finished_at)"
)


def upgrade() -> None:
    extend_jobs()
    create_webhook_deliveries()
    create_workers()
    create_chores()


def downgrade() -> None:
    for table in ("chores", "workers", "webhook_deliveries"):
        op.drop_table(table)
    op.drop_index("jobs_webhook_due", "jobs")
    if on_postgres():
        op.drop_index("jobs_labels", "jobs")
    for column in ("webhook_settled_at", "webhook_due_at", "webhook"):
        op.drop_column("jobs", column)


def extend_jobs() -> None:
    op.add_column("jobs", sa.Column("webhook", sa.Text))
    op.add_column("jobs", sa.Column("webhook_due_at", TIME))
    op.add_column("jobs", sa.Column("webhook_settled_at", TIME))
    due = sa.text(WEBHOOK_DUE)
    op.create_index("jobs_webhook_due", "jobs", ["webhook_due_at", "id"], postgresql_where=due, sqlite_where=due)
    if on_postgres():
        op.create_index(
            "jobs_labels", "jobs", ["labels"], postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}
        )


def create_webhook_deliveries() -> None:
    now = "now()" if on_postgres() else "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("sent_at", TIME, nullable=False, server_default=sa.text(now)),
        sa.Column("seconds", sa.Float),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pkey")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("webhook_deliveries_job_id"), ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("webhook_deliveries_attempt", "webhook_deliveries", ["job_id", "ended_at", "attempt"], unique=True)


def create_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("dtype", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("finished", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("workers_pkey")),
    )


def create_chores() -> None:
    op.create_table(
        "chores",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("chores_pkey")),
    )


def on_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"
