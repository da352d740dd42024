from __future__ import annotations

import threading

from api.announcing import Announcer
from worker.errors import BrokerUnavailable


def test_what_comes_while_messages_are_sent_is_sent_once_afterwards() -> None:
    begun, go_on, sent = threading.Event(), threading.Event(), []

    def fill(model: str) -> None:
        sent.append(model)
        begun.set()
        assert go_on.wait(20)

    announcer = Announcer(fill)
    announcer.start()
    announcer.announce("a")
    assert begun.wait(20)
    for _ in range(100):
        announcer.announce("a")
    go_on.set()
    announcer.stop()

    assert sent == ["a", "a"]


def test_a_broker_that_is_away_ends_nothing() -> None:
    tried: list[str] = []

    def fill(model: str) -> None:
        tried.append(model)
        raise BrokerUnavailable

    announcer = Announcer(fill)
    announcer.start()
    announcer.announce("a")
    announcer.announce("b")
    announcer.stop()

    assert set(tried) == {"a", "b"}
