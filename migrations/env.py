"""How Alembic reaches the database: by the connection it is handed, else by GLM4V_DATABASE_URL."""

from __future__ import annotations

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, text

from worker.database import create_engine, transaction
from worker.settings import DatabaseSettings, load_settings
from worker.tables import Table

#: One number for all: workers that start together take turns.
ADVISORY_LOCK = 4_111_000


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def run_from_command_line() -> None:
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    engine = create_engine(load_settings(DatabaseSettings).database_url, connections=1, timeout_seconds=3600)
    with transaction(engine) as connection:
        run(connection)
    engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    run_from_command_line()
