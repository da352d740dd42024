"""A worker that gets nowhere ends itself, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from worker.errors import DeviceFailed, EmbedError
from worker.watchdog import Stall, Watchdog


@pytest.fixture
def watched() -> Callable[..., tuple[Watchdog, threading.Event, threading.Event]]:
    def watch(**answers: object) -> tuple[Watchdog, threading.Event, threading.Event]:
        ended, aborted = threading.Event(), threading.Event()
        broken = answers.get("broken")
        watchdog = Watchdog(
            stall_seconds=0.05,
            activity=lambda: None,
            work_waits=lambda: bool(answers.get("work_waits")),
            broken=lambda: broken if isinstance(broken, EmbedError) else None,
            end=ended.set,
            abort=aborted.set,
        )
        watchdog.start()
        return watchdog, ended, aborted

    return watch


def test_silence_is_a_stall_once_it_lasts_too_long() -> None:
    stall = Stall(seconds=10)
    assert not stall.is_over("same", work_waits=True, now=5)
    assert not stall.is_over("same", work_waits=True, now=15)
    assert stall.is_over("same", work_waits=True, now=15.1)


def test_anything_that_changes_starts_the_silence_anew() -> None:
    stall = Stall(seconds=10)
    stall.is_over(1, work_waits=True, now=0)
    assert not stall.is_over(2, work_waits=True, now=11)
    assert not stall.is_over(2, work_waits=True, now=21)
    assert stall.is_over(2, work_waits=True, now=21.1)


def test_having_nothing_to_do_is_no_stall() -> None:
    stall = Stall(seconds=10)
    stall.is_over(1, work_waits=True, now=0)
    assert not stall.is_over(1, work_waits=False, now=100)
    assert not stall.is_over(1, work_waits=True, now=101)


def test_a_worker_with_work_and_no_progress_is_aborted(
    watched: Callable[..., tuple[Watchdog, threading.Event, threading.Event]],
) -> None:
    watchdog, ended, aborted = watched(work_waits=True)
    assert aborted.wait(10)
    assert not ended.is_set()
    watchdog.stop()


def test_an_idle_worker_is_left_alone(
    watched: Callable[..., tuple[Watchdog, threading.Event, threading.Event]],
) -> None:
    watchdog, ended, aborted = watched(work_waits=False)
    assert not aborted.wait(0.3)
    assert not ended.is_set()
    watchdog.stop()


def test_a_broken_encoder_ends_the_worker_in_good_order(
    watched: Callable[..., tuple[Watchdog, threading.Event, threading.Event]],
) -> None:
    watchdog, ended, aborted = watched(work_waits=True, broken=DeviceFailed())
    assert ended.wait(10)
    assert not aborted.is_set()
    watchdog.stop()
