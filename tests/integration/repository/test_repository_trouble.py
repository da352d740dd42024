from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.repositories import (
    make_job,
)
from tests.servers import Postgres
from worker.database import create_engine, migrate
from worker.errors import (
    DatabaseUnavailable,
    SchemaMissing,
)
from worker.repository import Repository


class TestTrouble:
    def test_a_database_without_tables_says_what_to_run(self, tmp_path: Path, database_url: str):
        for url in (f"sqlite:///{tmp_path}/empty.db", database_url):
            repository = Repository(create_engine(url))
            with pytest.raises(SchemaMissing, match="alembic upgrade head"):
                repository.check()
            with pytest.raises(SchemaMissing):
                make_job(repository)
            repository.close()

    def test_a_server_that_is_away_is_unavailable(self, tmp_path: Path):
        for url in ("postgresql://127.0.0.1:9/none", f"sqlite:///{tmp_path}/no/such/folder.db"):
            repository = Repository(create_engine(url))
            with pytest.raises(DatabaseUnavailable, match="GLM4V_DATABASE_URL"):
                repository.check()

    def test_a_cut_connection_costs_one_error_at_most(self, postgres: Postgres, database_url: str):
        migrate(database_url)
        engine = create_engine(database_url)
        repository = Repository(engine)
        job = make_job(repository, 1)
        with engine.connect() as held:
            held.execute(text("SELECT 1"))
            postgres.cut_connections()
            with pytest.raises(Exception, match=r"terminat|closed"):
                held.execute(text("SELECT 1"))
        assert repository.get_job(job.id).progress.total == 1
        engine.dispose()

    def test_no_password_is_shown(self):
        repository = Repository(create_engine("postgresql://ann:s3cret@127.0.0.1:9/none"))
        with pytest.raises(DatabaseUnavailable) as caught:
            repository.check()
        assert "s3cret" not in caught.value.message
