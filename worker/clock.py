"""Time as the database tells it: leases must not depend on a worker's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no such type and keeps text: `2026-11-23 19:15:00.123000`."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's time at the start of the transaction, to the millisecond at least."""

    name = "glm4v_now"
    type = UtcDateTime()
    inherit_cache = True


class now_plus(FunctionElement[datetime]):  # noqa: N801
    """The database's time and some seconds, which may be negative; null for null seconds."""

    name = "glm4v_now_plus"
    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: Any) -> None:
        super().__init__(literal(seconds, Float) if isinstance(seconds, int | float) else seconds)


@compiles(now, "postgresql")
def _postgres_now(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ARG001
    return "now()"


@compiles(now_plus, "postgresql")
def _postgres_now_plus(element: now_plus, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(now() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


# The format is the one in which SQLAlchemy writes datetimes, so that text compares as time does.
_SQLITE_FORMAT = "'%Y-%m-%d %H:%M:%f000'"


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ARG001
    return f"strftime({_SQLITE_FORMAT}, 'now')"


@compiles(now_plus, "sqlite")
def _sqlite_now_plus(element: now_plus, compiler: SQLCompiler, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    # A null in the modifier makes the whole null.
    return f"strftime({_SQLITE_FORMAT}, 'now', round({seconds}, 3) || ' seconds')"
