from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from worker.errors import LeaseLost
from worker.limits import ByteBudget, Gate, KeyedLocks


def nothing() -> None:
    """Everybody still wants it."""


def give_up() -> None:
    raise LeaseLost


def test_a_budget_is_given_out_once() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(60)
    assert not budget.try_take(41)
    assert budget.try_take(40)
    budget.give_back(60)
    assert budget.try_take(1)
    assert budget.taken == 41


def test_more_than_the_whole_budget_is_given_to_one_taker_alone() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(1000)
    assert not budget.try_take(1)
    budget.give_back(1000)
    assert budget.try_take(1)
    assert not budget.try_take(1000)


def test_waiting_for_room_ends_when_there_is_some() -> None:
    budget = ByteBudget(100)
    budget.take(100, check=nothing)
    waiter = threading.Thread(target=budget.take, args=(50,), kwargs={"check": nothing})
    waiter.start()
    budget.give_back(100)
    waiter.join(10)
    assert budget.taken == 50


def test_waiting_for_room_ends_when_nobody_wants_it_any_more() -> None:
    budget = ByteBudget(100)
    budget.take(100, check=nothing)
    with pytest.raises(LeaseLost):
        budget.take(1, check=give_up)
    assert budget.taken == 100


class Visitor:
    """A thread that enters a block and stays until it is told to leave."""

    def __init__(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._visit, args=(enter,))
        self._thread.start()

    def _visit(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        with enter():
            self.inside.set()
            assert self._leave.wait(10)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_claims_go_through_the_gate_together_and_a_suspect_alone() -> None:
    gate = Gate()
    first, second = Visitor(gate.together), Visitor(gate.together)
    assert first.inside.wait(10)
    assert second.inside.wait(10)

    suspect = Visitor(gate.alone)
    first.leave()
    assert not suspect.inside.is_set()
    second.leave()
    assert suspect.inside.wait(10)

    other, innocent = Visitor(gate.alone), Visitor(gate.together)
    assert not other.inside.is_set()
    assert not innocent.inside.is_set()
    suspect.leave()
    assert other.inside.wait(10)
    assert not innocent.inside.is_set(), "a waiting suspect goes first"
    other.leave()
    assert innocent.inside.wait(10)
    innocent.leave()


def test_one_key_has_one_holder_and_other_keys_have_their_own() -> None:
    locks = KeyedLocks()
    first = Visitor(lambda: locks.hold("a", check=nothing))
    assert first.inside.wait(10)
    other = Visitor(lambda: locks.hold("b", check=nothing))
    assert other.inside.wait(10)

    second = Visitor(lambda: locks.hold("a", check=nothing))
    assert not second.inside.is_set()
    first.leave()
    assert second.inside.wait(10)
    second.leave()
    other.leave()


def test_waiting_for_a_key_ends_when_nobody_wants_it_any_more() -> None:
    locks = KeyedLocks()
    holder = Visitor(lambda: locks.hold("a", check=nothing))
    assert holder.inside.wait(10)
    with pytest.raises(LeaseLost), locks.hold("a", check=give_up):
        pytest.fail("somebody else holds it")
    holder.leave()
    with locks.hold("a", check=nothing):
        pass


def test_a_key_that_nobody_holds_takes_no_memory() -> None:
    locks = KeyedLocks()
    with locks.hold("a", check=nothing):
        assert len(locks) == 1
    assert len(locks) == 0
