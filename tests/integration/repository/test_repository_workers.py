from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Engine

from tests.repositories import age
from worker.records import Heartbeat
from worker.repository import Repository

BEAT = Heartbeat(
    name="gpu-1:7", model="m", device="cuda:0", dtype="bfloat16", age_seconds=30, held=3, finished=10, tokens=500
)


def test_a_worker_is_as_it_last_said(repository: Repository):
    repository.heartbeat(BEAT)
    repository.heartbeat(replace(BEAT, name="gpu-1:6", model="n"))
    repository.heartbeat(replace(BEAT, age_seconds=35, held=1, finished=12, tokens=600))
    worker, other = repository.workers()
    assert (worker.name, worker.model, worker.device, worker.dtype) == ("gpu-1:7", "m", "cuda:0", "bfloat16")
    assert (worker.held, worker.finished, worker.tokens, worker.is_alive) == (1, 12, 600, True)
    assert 34 < (worker.seen_at - worker.started_at).total_seconds() < 36
    assert other.name == "gpu-1:6"


def test_a_worker_that_stops_in_order_is_gone(repository: Repository):
    repository.heartbeat(BEAT)
    repository.remove_worker("nobody")
    repository.remove_worker(BEAT.name)
    assert repository.workers() == []


def test_a_worker_that_fell_silent_is_shown_for_a_day(repository: Repository, engine: Engine):
    repository.heartbeat(BEAT)
    age(engine, "workers", "seen_at", 61)
    repository.forget_workers()
    (worker,) = repository.workers()
    assert not worker.is_alive
    age(engine, "workers", "seen_at", 86_400)
    repository.forget_workers()
    assert repository.workers() == []


def test_a_chore_is_due_again_after_its_interval(repository: Repository, engine: Engine):
    assert repository.begin_chore("tidy", interval_seconds=60)
    assert not repository.begin_chore("tidy", interval_seconds=60)
    assert repository.begin_chore("dust", interval_seconds=60)
    age(engine, "chores", "due_at", 60)
    assert repository.begin_chore("tidy", interval_seconds=60)
