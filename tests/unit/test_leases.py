from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from tests.claimed import claimed
from worker.errors import DatabaseUnavailable, ItemCancelled, LeaseLost, WorkerStopping
from worker.leases import Leases
from worker.records import ClaimedItem, Renewal


class Repository:
    """Answers each renewal with the next of its answers, the last one for ever."""

    def __init__(self, *answers: Renewal | DatabaseUnavailable) -> None:
        self._answers = list(answers)
        self.asked: list[list[int]] = []
        self.answered_all = threading.Event()

    def renew(self, items: Sequence[ClaimedItem], *, lease_seconds: float) -> Renewal:
        self.asked.append([item.id for item in items])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if len(self.asked) > 2:
            self.answered_all.set()
        if isinstance(answer, DatabaseUnavailable):
            raise answer
        return answer


def renewal(held: set[int], cancelled: set[int] = frozenset()) -> Renewal:  # type: ignore[assignment]
    return Renewal(held=frozenset(held), cancelled=frozenset(cancelled))


def test_a_renewal_tells_which_items_are_lost_and_which_are_cancelled() -> None:
    repository = Repository(DatabaseUnavailable(), renewal({1, 2}, {2}))
    leases = Leases(repository, lease_seconds=0.03)
    kept, cancelled, lost = leases.hold([claimed(1), claimed(2), claimed(3)])
    leases.start()
    assert repository.answered_all.wait(10)
    leases.stop()

    kept.check()
    with pytest.raises(ItemCancelled):
        cancelled.check()
    with pytest.raises(LeaseLost):
        lost.check()
    assert repository.asked[0] == [1, 2, 3]


def test_stopping_leaves_what_is_decoded_to_be_finished() -> None:
    leases = Leases(Repository(renewal(set())), lease_seconds=100)
    decoded, undecoded = leases.hold([claimed(1), claimed(2)])
    decoded.is_decoded = True

    leases.stop_undecoded()
    decoded.check()
    with pytest.raises(WorkerStopping):
        undecoded.check()

    leases.stop_all()
    with pytest.raises(WorkerStopping):
        decoded.check()


def test_an_item_claimed_a_second_time_is_not_let_go_with_its_first_claim() -> None:
    leases = Leases(Repository(renewal(set())), lease_seconds=100)
    (first,) = leases.hold([claimed(1)])
    (second,) = leases.hold([claimed(1, lease_owner="later")])
    leases.let_go(first)
    assert not leases.wait_until_none(0)
    leases.let_go(second)
    assert leases.wait_until_none(0)


def test_the_first_reason_stays() -> None:
    (lease,) = Leases(Repository(renewal(set())), lease_seconds=100).hold([claimed(1)])
    lease.take_away(LeaseLost())
    lease.take_away(WorkerStopping())
    with pytest.raises(LeaseLost):
        lease.check()
