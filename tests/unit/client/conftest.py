"""A fake service, and each of the two clients of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from glm4v_client import AsyncEmbeddingClient, EmbeddingClient, RetryPolicy
from tests.clients import OnLoop
from tests.fake_server import fake_service
from tests.fake_service import FakeService

#: Waits that a test does not notice.
QUICK = RetryPolicy(attempts=4, base_seconds=0.01, limit_seconds=0.02, busy_seconds=5)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture(scope="session")
def certificates() -> ssl.SSLContext:
    """Read once: they take longer than most of these tests."""
    return ssl.create_default_context()


@pytest.fixture(params=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest, service: FakeService, certificates: ssl.SSLContext) -> Iterator[Any]:
    if request.param == "blocking":
        with EmbeddingClient(service.url, retry=QUICK, verify=certificates) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client = AsyncEmbeddingClient(service.url, retry=QUICK, verify=certificates)
        yield OnLoop(client, runner)
        runner.run(client.close())
