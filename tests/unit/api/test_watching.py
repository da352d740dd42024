"""A job under watch is read by one task, however many watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from api.watching import Watches
from glm4v_client.options import EmbedOptions
from glm4v_client.records import Counts, Job
from glm4v_client.states import JobState
from worker.errors import DatabaseUnavailable, JobNotFound

ID = uuid4()
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def job(done: int, *, total: int = 3, state: JobState | None = None) -> Job:
    counts = Counts(total=total, queued=total - done, running=0, succeeded=done, failed=0, cancelled=0)
    fields: dict[str, Any] = dict.fromkeys(["rate", "seconds_left", "closed_at", "started_at", "finished_at"])
    return Job(
        id=ID,
        state=state or (JobState.FINISHED if done == total else JobState.RUNNING),
        owner="",
        model="m",
        priority=5,
        options=EmbedOptions(),
        labels={},
        counts=counts,
        tokens=done,
        created_at=NOW,
        cancelled_at=None,
        measured_at=NOW,
        **fields,
    )


class Database:
    """Answers with one after another, the last again and again; an error is raised."""

    def __init__(self, *answers: Job | Exception) -> None:
        self.answers = list(answers)
        self.reads = 0

    def read(self, _: UUID) -> Job:
        self.reads += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def seen_by(watches: Watches) -> list[int]:
    """The items done in each version that a watcher sees."""
    seen, version = [], 0
    async with watches.watch(ID) as watch:
        while not watch.is_over:
            assert await watch.wait(version, seconds=20)
            if watch.version > version:
                assert watch.job is not None
                version = watch.version
                seen.append(watch.job.counts.done)
    return seen


def run(program: Callable[[], Any]) -> Any:
    return asyncio.run(program())


def test_a_watcher_sees_every_change_until_the_end_and_no_repetition() -> None:
    database = Database(job(0), job(0), job(1), job(1), job(3))

    assert run(lambda: seen_by(Watches(database.read, interval=0.001))) == [0, 1, 3]
    assert database.reads == 5


def test_many_watchers_cost_as_many_looks_as_one() -> None:
    database = Database(job(0), job(1), job(2), job(3))

    async def many() -> list[list[int]]:
        watches = Watches(database.read, interval=0.01)
        return await asyncio.gather(*(seen_by(watches) for _ in range(50)))

    seen = run(many)

    assert database.reads == 4
    assert {last[-1] for last in seen} == {3}


def test_a_database_that_is_away_for_a_moment_ends_nothing() -> None:
    database = Database(job(1), DatabaseUnavailable(), job(3))

    assert run(lambda: seen_by(Watches(database.read, interval=0.001))) == [1, 3]


def test_a_job_that_is_deleted_ends_its_watches() -> None:
    database = Database(job(1), JobNotFound())

    assert run(lambda: seen_by(Watches(database.read, interval=0.001))) == [1]


def test_a_cancelled_job_ends_when_nothing_of_it_runs() -> None:
    database = Database(job(1, state=JobState.CANCELLED))

    assert run(lambda: seen_by(Watches(database.read, interval=0.001))) == [1]


def test_when_nobody_watches_any_more_nobody_looks() -> None:
    database = Database(job(0))

    async def glance() -> int:
        watches = Watches(database.read, interval=0.001)
        async with watches.watch(ID) as watch:
            await watch.wait(0, seconds=20)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.wait(tasks, timeout=20)
        return len(asyncio.all_tasks())

    assert run(glance) == 1


def test_a_server_that_stops_ends_every_watch_and_those_that_begin() -> None:
    database = Database(job(0))

    async def stop() -> list[list[int]]:
        watches = Watches(database.read, interval=60)
        watchers = [asyncio.create_task(seen_by(watches)) for _ in range(3)]
        async with watches.watch(ID) as watch:
            await watch.wait(0, seconds=20)
        watches.end()
        return [*await asyncio.gather(*watchers), await seen_by(watches)]

    assert run(stop) == [[0], [0], [0], []]
