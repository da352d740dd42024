from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.claimed import claimed
from worker.errors import DatabaseUnavailable
from worker.recorder import Recorder
from worker.records import Failed, Outcome, Recorded


def outcome(number: int) -> Failed:
    return Failed(item=claimed(number), code="not_found", message="There is nothing.")


class Book:
    """Keeps the groups it was given; `before` runs first and may raise."""

    def __init__(self, before: Callable[[Sequence[Outcome]], None] = lambda _: None) -> None:
        self.groups: list[list[int]] = []
        self._before = before

    def record(self, outcomes: Sequence[Outcome]) -> Recorded:
        self._before(outcomes)
        ids = [one.item.id for one in outcomes]
        self.groups.append(ids)
        return Recorded(accepted=frozenset(ids), unused_objects=())


@pytest.fixture
def start() -> Iterator[Callable[..., Recorder]]:
    recorders: list[Recorder] = []

    def start_recorder(book: Book, *, patience_seconds: float = 10) -> Recorder:
        recorder = Recorder(book, patience_seconds=patience_seconds)
        recorder.start()
        recorders.append(recorder)
        return recorder

    yield start_recorder
    for recorder in recorders:
        recorder.stop()


def test_what_gathers_during_one_transaction_goes_into_the_next(start: Callable[..., Recorder]) -> None:
    reached, opened = threading.Event(), threading.Event()

    def hold(_: Sequence[Outcome]) -> None:
        reached.set()
        assert opened.wait(10)

    book = Book(before=hold)
    recorder = start(book)
    futures = [recorder.record(outcome(1))]
    assert reached.wait(10)
    futures += [recorder.record(outcome(number)) for number in range(2, 10)]
    opened.set()

    for number, future in enumerate(futures, start=1):
        assert number in future.result(10).accepted
    assert book.groups == [[1], list(range(2, 10))]


def test_a_database_that_comes_back_is_waited_for(start: Callable[..., Recorder]) -> None:
    failures = iter([DatabaseUnavailable(), DatabaseUnavailable()])

    def fail_twice(_: Sequence[Outcome]) -> None:
        for error in failures:
            raise error

    book = Book(before=fail_twice)
    assert start(book).record(outcome(1)).result(10).accepted == {1}
    assert book.groups == [[1]]


def test_a_database_that_stays_away_is_given_up(start: Callable[..., Recorder]) -> None:
    def fail(_: Sequence[Outcome]) -> None:
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        start(Book(before=fail), patience_seconds=0.1).record(outcome(1)).result(10)


def test_an_outcome_that_the_database_refuses_takes_no_other_with_it(start: Callable[..., Recorder]) -> None:
    reached, opened = threading.Event(), threading.Event()

    def refuse(outcomes: Sequence[Outcome]) -> None:
        reached.set()
        assert opened.wait(10)
        if any(one.item.id == 3 for one in outcomes):
            raise ValueError("a NUL in a text")

    book = Book(before=refuse)
    recorder = start(book)
    futures = [recorder.record(outcome(1))]
    assert reached.wait(10)
    futures += [recorder.record(outcome(number)) for number in (2, 3, 4)]
    opened.set()

    with pytest.raises(ValueError, match="NUL"):
        futures[2].result(10)
    for future in (futures[0], futures[1], futures[3]):
        assert future.result(10)
    assert book.groups == [[1], [2], [4]]


def test_stopping_records_what_was_handed_over() -> None:
    book = Book()
    recorder = Recorder(book, patience_seconds=10)
    futures = [recorder.record(outcome(number)) for number in range(1, 600)]
    recorder.start()
    recorder.stop()
    assert all(future.done() for future in futures)
    assert [number for group in book.groups for number in group] == list(range(1, 600))
    assert max(len(group) for group in book.groups) == 256
