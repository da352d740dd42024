"""When a worker takes another message."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker.intake import MessageThreads, Window


def window(items: int) -> tuple[Window, list[None]]:
    woken: list[None] = []
    return Window(items, on_room=lambda: woken.append(None)), woken


def test_there_is_room_until_as_many_items_are_held_as_may_be() -> None:
    items, _ = window(4)
    items.hold([1, 2, 3])
    assert items.has_room()
    items.hold([4, 5, 6])
    assert not items.has_room()
    assert len(items) == 6


def test_room_is_announced_once_when_there_is_some_again() -> None:
    items, woken = window(2)
    items.hold([1, 2, 3])
    items.let_go([1])
    assert woken == []
    items.let_go([2])
    items.let_go([3])
    assert len(woken) == 1


def test_an_item_finished_before_its_message_makes_room_once() -> None:
    items, _ = window(2)
    items.hold([1, 2])
    items.let_go([1])
    items.hold([3])
    items.let_go([1, 2])
    assert len(items) == 1


def test_a_closed_window_has_no_room_for_a_while() -> None:
    items, _ = window(2)
    items.close_for(3600)
    assert not items.has_room()
    items.close_for(0)
    assert items.has_room()


class Message:
    """One that runs until it is told to finish."""

    def __init__(self, threads: MessageThreads, item_ids: object, *, at_acknowledgement: Callable[[], None]) -> None:
        self.running, self.finish = threading.Event(), threading.Event()
        threads.apply_async(
            self._work,
            ("name", "id", {"args": [item_ids]}),
            callback=lambda _: at_acknowledgement(),
            accept_callback=None,
        )

    def _work(self, *_: object) -> None:
        self.running.set()
        self.finish.wait(10)


def test_a_message_makes_room_before_it_is_acknowledged() -> None:
    items, _ = window(1)
    threads = MessageThreads(items, threads=1)
    held: list[int] = []
    message = Message(threads, [7], at_acknowledgement=lambda: held.append(len(items)))
    assert message.running.wait(10)
    assert len(items) == 1
    message.finish.set()
    assert threads.join(10)
    assert held == [0]


def test_a_message_that_makes_no_sense_takes_no_room() -> None:
    items, _ = window(1)
    threads = MessageThreads(items, threads=1)
    message = Message(threads, "nonsense", at_acknowledgement=lambda: None)
    assert message.running.wait(10)
    assert items.has_room()
    message.finish.set()
    assert threads.join(10)


def test_closed_threads_finish_what_runs_and_start_nothing_more() -> None:
    items, _ = window(2)
    threads = MessageThreads(items, threads=1)
    acknowledged: list[str] = []
    first = Message(threads, [1], at_acknowledgement=lambda: acknowledged.append("first"))
    assert first.running.wait(10)
    second = Message(threads, [2], at_acknowledgement=lambda: acknowledged.append("second"))
    threads.close()
    assert not threads.join(0.01)
    first.finish.set()
    assert threads.join(10)
    assert acknowledged == ["first"]
    assert not second.running.is_set()
