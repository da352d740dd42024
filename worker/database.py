"""Engines for Postgres and SQLite, transactions, and the migrations that build the schema."""

from __future__ import annotations

import importlib.resources
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import psycopg
import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from worker.errors import DatabaseUnavailable, EmbedError, SchemaMissing

READ_ONLY = "glm4v_read_only"


def create_engine(url: str, *, connections: int = 10, timeout_seconds: float = 30) -> Engine:
    """An engine for `postgresql://...` or `sqlite:///path`; nothing is connected yet."""
    if url.startswith("sqlite"):
        return _sqlite_engine(url, connections, timeout_seconds)
    milliseconds = int(timeout_seconds * 1000)
    return sqlalchemy.create_engine(
        _with_driver(url),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        # Finds out that the server was restarted before a transaction does.
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 10,
            # A server that vanished without a word must not hold a thread for ever.
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}",
            "application_name": "glm4v-embed",
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Commit at the end of the block, roll back when it raises.

    Raises:
        DatabaseUnavailable: the connection broke, a limit was reached, or a deadlock chose this transaction.
        SchemaMissing: the migrations were not run.
    """
    with database_errors(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection for single SELECT statements; raises as `transaction` does."""
    options: dict[str, Any] = {READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        # Spares a statement its BEGIN and ROLLBACK.
        options["isolation_level"] = "AUTOCOMMIT"
    with database_errors(), engine.connect().execution_options(**options) as connection:
        yield connection


def migrate(url: str) -> None:
    """Bring the schema of a database to the present version, from nothing or from any earlier one."""
    if url.startswith("sqlite"):
        Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connections=1, timeout_seconds=3600)
    try:
        with transaction(engine) as connection:
            alembic.command.upgrade(migration_config(connection), "head")
    finally:
        engine.dispose()


def migration_config(connection: Connection) -> alembic.config.Config:
    """Alembic's configuration without its file, for the scripts that are installed beside us."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(importlib.resources.files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def database_errors() -> Iterator[None]:
    """Say what a driver's exception means: the one place that knows."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnavailable("no connection became free: raise GLM4V_DATABASE_CONNECTIONS") from error
    except DBAPIError as error:
        meaning = _meaning(error.orig, lost=error.connection_invalidated)
        if meaning is None:
            raise
        raise meaning from error
    except psycopg.Error as error:  # COPY goes past SQLAlchemy
        meaning = _meaning(error, lost=False)
        if meaning is None:
            raise
        raise meaning from error


#: SQLSTATE classes of trouble that passes: connection, rolled back by the server, resources, locks, shutdown.
_PASSING = ("08", "25P0", "28", "3D", "40", "53", "55P03", "57", "58")
#: Undefined table, column or schema.
_NO_SCHEMA = ("42P01", "42703", "3F000")


def _meaning(error: BaseException | None, *, lost: bool) -> EmbedError | None:
    """Our error for a driver's; None for a mistake in our own SQL."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    state = getattr(error, "sqlstate", None) or ""
    if state in _NO_SCHEMA or reason.startswith(("no such table", "no such column")):
        return SchemaMissing(f"the database lacks a table or column ({reason}): run `alembic upgrade head`")
    passing = (
        state.startswith(_PASSING)
        if state
        else isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | sqlite3.OperationalError)
    )
    if lost or passing:
        return DatabaseUnavailable(f"the database did not do its part ({reason}): check it and GLM4V_DATABASE_URL")
    return None


def _with_driver(url: str) -> str:
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def _sqlite_engine(url: str, connections: int, timeout_seconds: float) -> Engine:
    engine = sqlalchemy.create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        connect_args={"timeout": timeout_seconds},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001
        # The driver would begin transactions by its own rules, too late and never for reading.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that starts as a reader cannot wait for another writer: it fails with "database is locked" at once.
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
