"""The test servers themselves: what every other test under this folder stands on."""

from __future__ import annotations

from collections.abc import Iterator

import minio
import psycopg
import pytest
import redis

from tests.integration.conftest import running
from tests.servers import S3, Postgres, Valkey


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    yield from running(Valkey)


def dsn(database_url: str) -> str:
    return database_url.replace("+psycopg", "")


def test_each_postgres_database_is_empty_and_ones_own(postgres: Postgres, database_url: str) -> None:
    other = postgres.create_database()
    with psycopg.connect(dsn(other)) as connection:
        connection.execute("CREATE TABLE things ()")
    with psycopg.connect(dsn(database_url)) as connection:
        found = connection.execute("SELECT 1 FROM information_schema.tables WHERE table_name = 'things'").fetchall()
    assert found == []
    postgres.drop_database(other)


def test_cutting_postgres_connections_breaks_the_ones_that_are_open(postgres: Postgres, database_url: str) -> None:
    with psycopg.connect(dsn(database_url)) as connection:
        assert postgres.cut_connections() >= 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_valkey_without_a_log_forgets_everything_when_killed(own_valkey: Valkey) -> None:
    own_valkey.client().set("key", "value")
    own_valkey.kill()
    with pytest.raises(redis.ConnectionError):
        own_valkey.client().ping()
    own_valkey.start()
    assert own_valkey.client().get("key") is None


def test_a_paused_valkey_hangs_and_answers_again_when_resumed(own_valkey: Valkey) -> None:
    own_valkey.client().set("key", "value")
    own_valkey.pause()
    hurried = redis.Redis(port=own_valkey.port, socket_timeout=0.2, retry=None)
    with pytest.raises(redis.TimeoutError):
        hurried.get("key")
    own_valkey.resume()
    assert own_valkey.client().get("key") == b"value"


def test_the_s3_server_refuses_wrong_keys(s3: S3) -> None:
    stranger = minio.Minio(f"127.0.0.1:{s3.port}", access_key=s3.access_key, secret_key="wrong", secure=False)
    with pytest.raises(minio.error.S3Error, match="SignatureDoesNotMatch"):
        stranger.list_buckets()
