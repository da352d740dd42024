"""Which server keeps the service from being ready."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from api.health import Checks, Readiness
from worker.errors import DatabaseUnavailable, StorageForbidden


def run(checks: dict[str, Callable[[], None]], *, patience: float = 20) -> Readiness:
    asked = Checks(checks, patience=patience)
    try:
        return asyncio.run(asked.run())
    finally:
        asked.close()


def answers() -> None:
    """A server that is well."""


def database_is_away() -> None:
    raise DatabaseUnavailable("postgres://user:password@10.0.0.5 is away")


def store_refuses() -> None:
    raise StorageForbidden


def test_all_that_fail_are_named_with_codes_and_without_what_is_secret() -> None:
    readiness = run({"database": database_is_away, "broker": answers, "store": store_refuses})

    assert not readiness.ready
    assert {name: server.code for name, server in readiness.servers.items()} == {
        "database": "database_unavailable",
        "broker": None,
        "store": "storage_forbidden",
    }
    assert "password" not in readiness.model_dump_json()


def test_a_service_without_a_broker_says_so_and_is_ready() -> None:
    readiness = run({"database": answers, "store": answers})

    assert readiness.ready
    assert [server.used for server in readiness.servers.values()] == [True, False, True]


def test_a_server_that_hangs_is_not_waited_for_and_not_asked_twice_at_once() -> None:
    go_on, asked = threading.Event(), []

    def hangs() -> None:
        asked.append("database")
        assert go_on.wait(60)

    async def ask_often() -> list[Readiness]:
        checks = Checks({"database": hangs, "store": answers}, patience=0.05)
        hung = [await checks.run() for _ in range(3)]
        go_on.set()
        # The answer that was waited for in vain counts for nobody; the next question is asked anew.
        while not (await checks.run()).ready:
            await asyncio.sleep(0.01)
        checks.close()
        return hung

    hung = asyncio.run(ask_often())

    assert [readiness.servers["database"].code for readiness in hung] == ["timeout"] * 3
    assert all(readiness.servers["store"].ready for readiness in hung)
    assert len(asked) <= 2


def test_all_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(3)

    def meets() -> None:
        together.wait(20)

    assert run({"database": meets, "broker": meets, "store": meets}).ready
