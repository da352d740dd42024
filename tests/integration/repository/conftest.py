"""The tests in this folder run over Postgres and SQLite alike; after each, the counters must equal the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.repositories import check_counters
from tests.servers import Postgres
from worker.database import create_engine, migrate
from worker.repository import Repository


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    url = postgres.create_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("migrated_sqlite")
        (tmp_path / "jobs.db").write_bytes(template.read_bytes())
        engine = create_engine(f"sqlite:///{tmp_path}/jobs.db")
        yield engine
        engine.dispose()
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create_database(template=request.getfixturevalue("migrated_postgres"))
    engine = create_engine(url)
    yield engine
    engine.dispose()
    server.drop_database(url)


@pytest.fixture
def repository(engine: Engine) -> Iterator[Repository]:
    repository = Repository(engine)
    yield repository
    check_counters(engine)
