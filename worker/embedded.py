"""What `glm4v embed` does with a folder: one request after another, each to its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from glm4v_client.options import EmbedOptions
from glm4v_client.states import ItemState, JobState, MediaKind
from worker.encoding import Encoder
from worker.folder_worker import FolderWorker
from worker.records import ItemRecord, JobProgress, NewJob, Source
from worker.runtime import load_torch_encoder
from worker.settings import Settings
from worker.sources import SourceList

#: Seconds between two looks at how far it is.
_TICK = 0.1
_CLOSED = (JobState.QUEUED, JobState.RUNNING)
_UNFINISHED = (JobState.OPEN, *_CLOSED)
_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one command asks for."""

    sources: SourceList
    kind: MediaKind
    options: EmbedOptions

    def key(self, model: str) -> str:
        """Equal for the same command given again, in the same place."""
        parts = [self.sources.digest, self.kind, self.options.canonical(), model, str(Path.cwd())]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of a request."""

    job_id: UUID
    #: Items that an earlier run has finished.
    done: int
    #: Unfinished jobs of other requests that made room for it.
    cancelled_jobs: int


class EmbeddedRun:
    """Embeds one request after another, with the folder to itself: hold its lock meanwhile."""

    def __init__(self, settings: Settings, *, load: Callable[[Settings], Encoder] = load_torch_encoder) -> None:
        self._worker = FolderWorker(settings, any_path=True, load=load)
        self.runtime = self._worker.runtime
        self.repository = self._worker.repository
        self._settings = settings
        #: Jobs that a run before this one left unfinished.
        self._interrupted: set[UUID] = set()

    def start(self) -> None:
        """Make the database, load the model, and mend what a killed run left.

        Raises:
            EmbedError: a setting or the model makes that impossible.
        """
        self._worker.start()
        # Before mending, which may finish a job: an item that has killed its last worker has failed by now.
        self._interrupted = {job.id for state in _CLOSED for job in self.repository.list_jobs(state=state)}
        self._worker.take_over()

    def stop(self, drain_seconds: float = 0) -> None:
        """Finish what is decoded within the time given; what is not finished waits for the next run."""
        self._worker.stop(drain_seconds)

    def submit(self, request: Request) -> Submission:
        """Find the unfinished job of the same request, or make a new one.

        Other unfinished jobs of this folder are cancelled; what they have embedded is found again by its content.
        """
        key = request.key(self._settings.model)
        new = NewJob(model=self._settings.model, options=request.options.canonical(), idempotency_key=key)
        job, is_new = self.repository.create_job(new)
        if not is_new and job.id not in self._interrupted:
            # It was finished and is asked for again; or a run was killed before it knew all the items.
            self.repository.delete_job(job.id)
            job, is_new = self.repository.create_job(new)
        cancelled_jobs = self._cancel_others(job.id)
        self._interrupted.discard(job.id)
        if is_new:
            self.repository.add_items(job.id, (Source(source=text, kind=request.kind) for text in request.sources))
            self.repository.close_job(job.id)
        return Submission(job_id=job.id, done=job.progress.done, cancelled_jobs=cancelled_jobs)

    def work(self, job_id: UUID) -> Iterator[JobProgress]:
        """Embed a job's items, and say again and again how far it is, until all of them are done.

        Raises:
            EmbedError: the encoder or the database works no more.
        """
        while True:
            self._worker.hand_out()
            progress = self.repository.get_job(job_id).progress
            yield progress
            if progress.state not in _UNFINISHED:
                return
            self._worker.mend()
            self._worker.wait(_TICK)

    def items(
        self, job_id: UUID, *, after: int = 0, states: Sequence[ItemState] = tuple(ItemState)
    ) -> Iterator[ItemRecord]:
        """A job's items in the order in which they were given, a page in memory at a time."""
        while page := self.repository.list_items(job_id, states=states, after=after, limit=_PAGE):
            yield from page
            after = page[-1].id

    def _cancel_others(self, job_id: UUID) -> int:
        unfinished = [job.id for state in _UNFINISHED for job in self.repository.list_jobs(state=state)]
        others = [other for other in unfinished if other != job_id]
        for other in others:
            self.repository.cancel_job(other)
        return len(others)
