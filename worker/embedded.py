"""The service in one process and one folder: SQLite for Postgres, a directory for S3, a call for the broker."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from glm4v_client.options import EmbedOptions
from glm4v_client.states import ItemState, JobState, MediaKind
from worker.database import migrate
from worker.encoding import Encoder
from worker.folder import OutputFolder
from worker.records import DispatchedItem, ItemRecord, JobProgress, NewJob, Source
from worker.runtime import Runtime, load_torch_encoder
from worker.settings import PREFIX, Settings, load_settings
from worker.sources import SourceList

#: Unlike a service, somebody sits and waits: less patience with a server that does not answer.
_DEFAULTS: dict[str, Any] = {
    "max_attempts": 3,
    "charge_outages": True,
    "retry_base_seconds": 1.0,
    "retry_limit_seconds": 10.0,
    "item_threads": 32,
}
#: Items that one claim takes.
_GROUP = 8
#: Seconds between two looks at how far it is.
_TICK = 0.1
#: Seconds between two looks for retries that have become due.
_UPKEEP_SECONDS = 0.5
_CLOSED = (JobState.QUEUED, JobState.RUNNING)
_UNFINISHED = (JobState.OPEN, *_CLOSED)
_PAGE = 500


def embedded_settings(folder: OutputFolder, **chosen: Any) -> Settings:
    """Settings for a folder: what was chosen, then the GLM4V_ variables, then what suits one machine.

    Raises:
        InvalidSettings: names what makes no sense.
    """
    defaults = {name: value for name, value in _DEFAULTS.items() if f"{PREFIX}{name.upper()}" not in os.environ}
    return load_settings(Settings, **defaults, **chosen, database_url=folder.database_url, store_url=folder.store_url)


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
    """Embeds one request after another. Hold the folder's lock meanwhile: it proves that every other worker is dead."""

    def __init__(
        self, folder: OutputFolder, settings: Settings, *, load: Callable[[Settings], Encoder] = load_torch_encoder
    ) -> None:
        self.folder = folder
        self.runtime = Runtime(settings, load=load, any_path=True)
        self.repository = self.runtime.repository
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.item_threads, thread_name_prefix="claim")
        #: Jobs that a run before this one left unfinished.
        self._interrupted: set[UUID] = set()
        self._under_way = 0
        self._changed = threading.Condition()

    def start(self) -> None:
        """Make the database, load the model, and mend what a killed run left.

        Raises:
            EmbedError: a setting or the model makes that impossible.
        """
        migrate(self._settings.database_url)
        self.runtime.start()
        # Before mending, which may finish a job: an item that has killed its last worker has failed by now.
        self._interrupted = {job.id for state in _CLOSED for job in self.repository.list_jobs(state=state)}
        if self.repository.expire_leases():
            self._remove_unrecorded_objects()
        self._reconcile(redeliver_after_seconds=0)

    def stop(self, drain_seconds: float = 0) -> None:
        """Finish what is decoded within the time given; what is not finished waits for the next run."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.runtime.stop(drain_seconds)

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
        upkeep_at = time.monotonic() + _UPKEEP_SECONDS
        while True:
            self._hand_out()
            progress = self.repository.get_job(job_id).progress
            yield progress
            if progress.state not in _UNFINISHED:
                return
            if self.runtime.engine.broken:
                raise self.runtime.engine.broken
            if time.monotonic() > upkeep_at:
                self._reconcile(redeliver_after_seconds=3600)
                upkeep_at = time.monotonic() + _UPKEEP_SECONDS
            with self._changed:
                self._changed.wait(_TICK)

    def items(
        self, job_id: UUID, *, after: int = 0, states: Sequence[ItemState] = tuple(ItemState)
    ) -> Iterator[ItemRecord]:
        """A job's items in the order in which they were given, a page in memory at a time."""
        while page := self.repository.list_items(job_id, states=states, after=after, limit=_PAGE):
            yield from page
            after = page[-1].id

    def _hand_out(self) -> None:
        """Keep as many items under way as there are threads; more would only be claimed and wait."""
        room = self._settings.item_threads - self._under_way
        # Refilled in gulps, so that a claim takes several items.
        if room < min(_GROUP, self._settings.item_threads):
            return
        items = self.repository.dispatch(self._settings.model, window_items=2**31, limit=room)
        for item_ids, alone in claims(items):
            with self._changed:
                self._under_way += len(item_ids)
            self._threads.submit(self._process, item_ids, alone)

    def _process(self, item_ids: list[int], alone: bool) -> None:
        try:
            self.runtime.process(item_ids, alone=alone)
        finally:
            with self._changed:
                self._under_way -= len(item_ids)
                self._changed.notify_all()

    def _reconcile(self, *, redeliver_after_seconds: float) -> None:
        self.repository.reconcile(
            max_attempts=self._settings.max_attempts,
            redeliver_after={self._settings.model: redeliver_after_seconds},
        )

    def _cancel_others(self, job_id: UUID) -> int:
        unfinished = [job.id for state in _UNFINISHED for job in self.repository.list_jobs(state=state)]
        others = [other for other in unfinished if other != job_id]
        for other in others:
            self.repository.cancel_job(other)
        return len(others)

    def _remove_unrecorded_objects(self) -> None:
        """A run killed between storing and recording has left objects that no row names."""
        storage = self.runtime.pipeline.storage
        keys = (found.key for found in storage.list("embeddings"))
        while group := list(islice(keys, _PAGE)):
            for key in set(group) - self.repository.known_objects(group):
                storage.delete(key)


def claims(items: Sequence[DispatchedItem]) -> Iterator[tuple[list[int], bool]]:
    """Ids that are claimed together, and whether they are suspects, which are claimed alone."""
    innocent = [item.id for item in items if not item.suspect]
    for start in range(0, len(innocent), _GROUP):
        yield innocent[start : start + _GROUP], False
    for item in items:
        if item.suspect:
            yield [item.id], True
