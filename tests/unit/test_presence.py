from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.claimed import claimed, embedding
from worker.errors import DatabaseUnavailable
from worker.presence import Presence
from worker.records import Failed, Heartbeat, Released, Succeeded


class Rows:
    """The workers' table. It can be away, or hang until it is told to go on."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []
        self.removed: list[str] = []
        self.is_away = False
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def heartbeat(self, beat: Heartbeat) -> None:
        self._answer()
        self.beats.append(beat)

    def remove_worker(self, name: str) -> None:
        self._answer()
        self.removed.append(name)

    def _answer(self) -> None:
        self.asked.set()
        assert self.answers.wait(60)
        if self.is_away:
            raise DatabaseUnavailable


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def presence(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Presence:
    monkeypatch.setattr("worker.presence._PAUSE_SECONDS", 0)
    monkeypatch.setattr("worker.presence._LEAVE_SECONDS", 0.05)
    runtime: Any = SimpleNamespace(
        name="host:7",
        repository=rows,
        leases=[1, 2, 3],
        settings=SimpleNamespace(model="m", dtype="float32"),
        engine=SimpleNamespace(encoder=SimpleNamespace(device="cuda:0")),
    )
    return Presence(runtime)


def test_it_says_what_was_done(rows: Rows, presence: Presence) -> None:
    presence.observe(Succeeded(item=claimed(1), embedding=embedding(num_tokens=16)))
    presence.observe(Failed(item=claimed(2), code="not_found", message="m"))
    presence.observe(Released(item=claimed(3)))
    presence.beat()
    (beat,) = rows.beats
    assert (beat.name, beat.model, beat.device, beat.dtype) == ("host:7", "m", "cuda:0", "float32")
    assert (beat.held, beat.finished, beat.tokens) == (3, 2, 16)


def test_heartbeats_are_not_more_frequent_than_anybody_needs(
    rows: Rows, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.presence._PAUSE_SECONDS", 3600)
    for _ in range(3):
        presence.beat()
    assert len(rows.beats) == 1


def test_after_leaving_it_is_silent(rows: Rows, presence: Presence) -> None:
    presence.beat()
    presence.leave()
    presence.beat()
    assert (len(rows.beats), rows.removed) == (1, ["host:7"])


def test_who_was_never_heard_leaves_without_a_word(rows: Rows, presence: Presence) -> None:
    presence.leave()
    assert rows.removed == []
    assert not rows.asked.is_set()


def test_a_database_that_did_not_answer_is_not_asked_again_on_leaving(rows: Rows, presence: Presence) -> None:
    presence.beat()
    rows.is_away = True
    with pytest.raises(DatabaseUnavailable):
        presence.beat()
    rows.asked.clear()
    presence.leave()
    assert not rows.asked.is_set()


def test_a_database_that_goes_away_in_between_is_no_error(rows: Rows, presence: Presence) -> None:
    presence.beat()
    rows.is_away = True
    presence.leave()
    assert rows.removed == []


def test_a_heartbeat_that_hangs_holds_up_neither_items_nor_the_end(rows: Rows, presence: Presence) -> None:
    presence.beat()
    rows.asked.clear()
    rows.answers.clear()
    hanging = threading.Thread(target=presence.beat)
    hanging.start()
    assert rows.asked.wait(60)
    presence.observe(Succeeded(item=claimed(1), embedding=embedding()))
    presence.leave()
    rows.answers.set()
    hanging.join()
    assert rows.removed == []
