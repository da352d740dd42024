"""Real servers for the tests under this folder: one of each a session, an empty database, broker and bucket a test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.servers import S3, MissingServerError, Postgres, Server, Valkey

AnyServer = TypeVar("AnyServer", bound=Server)


def running(kind: Callable[[], AnyServer]) -> Iterator[AnyServer]:
    """A server of `kind` while a fixture lasts. Where its wheel is missing: a skip at home, a failure in CI."""
    try:
        server = kind()
    except MissingServerError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing} (in CI this is a failure, not a skip)")
        pytest.skip(str(missing))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Shared by the session: a test that stops its server starts one of its own."""
    yield from running(Postgres)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """Shared by the session: a test that stops its server starts one of its own."""
    yield from running(Valkey)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Shared by the session: a test that stops its server starts one of its own."""
    yield from running(S3)


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """An empty Postgres database, as a SQLAlchemy URL."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def broker_url(valkey: Valkey) -> str:
    """An empty broker."""
    valkey.flush()
    return valkey.url


@pytest.fixture
def store_url(s3: S3) -> str:
    """A bucket name nobody has used, as GLM4V_STORE_URL takes it; the bucket itself is not made."""
    return s3.store_url(f"test-{uuid.uuid4().hex[:12]}")
