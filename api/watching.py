"""Jobs under watch: each is read by one task, however many watch it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from glm4v_client.records import Job
from glm4v_client.states import JobState
from worker.errors import JobNotFound, TransientError

log = logging.getLogger(__name__)

#: Seconds between two looks at a job.
INTERVAL = 0.5


def has_ended(job: Job) -> bool:
    """Whether nothing more happens to a job by itself."""
    return job.state is JobState.FINISHED or (job.state is JobState.CANCELLED and job.counts.running == 0)


class Watch:
    """What is known of one job, for all who watch it."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.version = 0
        self.is_over = False
        self.watchers = 0
        self._changed = asyncio.Condition()

    async def show(self, job: Job) -> None:
        async with self._changed:
            if self.job is None or _changes(job) != _changes(self.job):
                self.version += 1
                self.job = job
                self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more is shown."""
        async with self._changed:
            self.is_over = True
            self._changed.notify_all()

    async def wait(self, seen: int, *, seconds: float) -> bool:
        """Wait for something newer than version `seen`, or the end. False: nothing came in this time."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.version > seen or self.is_over)
        except TimeoutError:
            return False
        return True


class Watches:
    """The jobs that somebody watches. Everything happens on one event loop."""

    def __init__(self, read: Callable[[UUID], Job], *, interval: float = INTERVAL) -> None:
        """
        Args:
            read: asks the database; called on a thread.
        """
        self._read = read
        self._interval = interval
        self._watches: dict[UUID, Watch] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._over = asyncio.Event()

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncIterator[Watch]:
        """A job under watch, for the length of a block."""
        watch = self._watches.get(job_id)
        if watch is None:
            watch = self._watches[job_id] = Watch()
            self._tasks[job_id] = asyncio.create_task(self._follow(job_id, watch))
        watch.watchers += 1
        try:
            yield watch
        finally:
            watch.watchers -= 1
            if watch.watchers == 0:
                self._forget(job_id, watch)

    def end(self) -> None:
        """End every watch, and each that begins from now on, so that the server can stop."""
        self._over.set()

    async def _follow(self, job_id: UUID, watch: Watch) -> None:
        try:
            while not self._over.is_set():
                if await self._look(job_id, watch):
                    return
                await self._pause()
        except Exception:
            log.exception("job %s cannot be watched", job_id)
        finally:
            # Who begins to watch it from now on starts anew: the job may be taken up again.
            self._forget(job_id, watch)
            await watch.end()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._over.wait()
        except TimeoutError:
            # As it should be: the next look is due.
            return

    async def _look(self, job_id: UUID, watch: Watch) -> bool:
        """Whether that was the last look."""
        try:
            job = await run_in_threadpool(self._read, job_id)
        except JobNotFound:
            return True
        except TransientError as error:
            log.warning("job %s is looked at again: %s", job_id, error.message)
            return False
        await watch.show(job)
        return has_ended(job)

    def _forget(self, job_id: UUID, watch: Watch) -> None:
        if self._watches.get(job_id) is not watch:
            return
        del self._watches[job_id]
        task = self._tasks.pop(job_id)
        if task is not asyncio.current_task():
            task.cancel()


def _changes(job: Job) -> object:
    """What makes a job worth telling about again; the clock alone does not."""
    return job.state, job.counts, job.tokens, job.closed_at, job.finished_at, job.cancelled_at
