from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from worker.database import create_engine, migrate, migration_config
from worker.repository import Repository
from worker.tables import Table

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/jobs.db"
    return request.getfixturevalue("database_url")


def test_the_migrations_build_what_the_models_say(engine: Engine):
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Table.metadata)
        if engine.dialect.name == "sqlite":
            # Alembic sees neither the direction of an index's columns there, nor that an index is for Postgres alone:
            # the test below, which compares the text, does.
            unseen = ("items_undispatched", "jobs_labels")
            differences = [one for one in differences if getattr(one[1], "name", "") not in unseen]
        assert differences == []


def test_indexes_and_constraints_are_the_same_to_the_letter(tmp_path: Path):
    """What Alembic does not compare: conditions of partial indexes, checks and defaults."""
    migrate(f"sqlite:///{tmp_path}/migrated.db")
    migrated, created = (create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("migrated", "created"))
    Table.metadata.create_all(created)
    assert schema(migrated) == schema(created)
    for engine in (migrated, created):
        engine.dispose()


def test_a_second_run_changes_nothing_and_a_downgrade_leaves_nothing(url: str):
    migrate(url)
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        assert set(Table.metadata.tables) <= set(inspect(connection).get_table_names())
        alembic.command.downgrade(migration_config(connection), "base")
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(url)


def test_two_processes_may_migrate_at_once(database_url: str):
    code = "import sys; from worker.database import migrate; migrate(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", code, database_url], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_the_alembic_command_takes_its_database_from_the_environment(url: str):
    if url.startswith("sqlite"):
        (ROOT / url.removeprefix("sqlite:///")).parent.mkdir()
    run = subprocess.run(
        [Path(sys.executable).parent / "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "GLM4V_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM items")).scalar() == 0
    engine.dispose()


def schema(engine: Engine) -> dict[str, list[str]]:
    """Each object's definition as its sorted clauses: a column that was added later stands in another place."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    return {row.name: clauses(row.sql) for row in rows if row.name not in ("alembic_version", "sqlite_sequence")}


def clauses(sql: str) -> list[str]:
    """What stands between the commas of a definition, those in brackets left alone; without quotes and line ends."""
    head, _, body = " ".join(sql.replace('"', "").split()).partition("(")
    found, depth = [""], 0
    for letter in body.rpartition(")")[0]:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [head, *sorted(clause.strip() for clause in found)]


def test_the_version_before_goes_on_with_the_new_schema(url: str):
    """What it writes, by columns that it knows, is still taken; what it had written is still there."""
    migrate(url)
    engine = create_engine(url)
    made = text(
        "INSERT INTO jobs (id, owner, model, priority, options, labels)"
        " VALUES (:id, 'ann', 'm', 5, '{}', '{\"set\": \"a\"}')"
    )
    with engine.begin() as connection:
        alembic.command.downgrade(migration_config(connection), "0001")
        connection.execute(made, {"id": "0" * 31 + "1"})
    migrate(url)
    with engine.begin() as connection:
        connection.execute(made, {"id": "0" * 31 + "2"})
    jobs = Repository(engine).list_jobs(label=("set", "a"))
    assert [(job.owner, job.webhook) for job in jobs] == [("ann", None)] * 2
    engine.dispose()
