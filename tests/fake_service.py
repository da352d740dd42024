"""A service on loopback that speaks the wire contract of glm4v_client.records, remembers what it is asked, and fails
where a test says so.

Nothing happens in it by time: every look at a job finishes `pace` more of its items. An item whose source holds
"broken" fails as corrupt_media, the others succeed.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from glm4v_client.records import (
    Added,
    Counts,
    Embedding,
    Item,
    ItemError,
    ItemRequest,
    ItemsRequest,
    JobDetail,
    JobRequest,
)
from glm4v_client.states import ItemState, JobState, MediaKind
from tests.artefacts import artefact_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Dropped:
    """The connection breaks before the request has an effect, or after it."""

    after_effect: bool


@dataclass(frozen=True)
class Refused:
    """A server or a proxy says no."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>proxy</html>"


@dataclass(frozen=True)
class Cut:
    """The connection breaks after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Flipped:
    """One byte of the body is another."""

    at: int


@dataclass(frozen=True)
class Unranged:
    """A request for a range is answered by the whole."""


@dataclass(frozen=True)
class Held:
    """The answer comes when the test allows it."""

    until: threading.Event


Fault = Dropped | Refused | Cut | Flipped | Unranged | Held


@dataclass
class FakeJob:
    request: JobRequest
    items: list[ItemRequest]
    is_closed: bool
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    is_cancelled: bool = False
    finished: int = 0
    retried: set[int] = field(default_factory=set)


@dataclass
class FakeService:
    """What the server has been told and what it shall do."""

    url: str = ""
    pace: int = 10**9
    page: int = 100
    key: str | None = None
    jobs: dict[uuid.UUID, FakeJob] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    keys: dict[str, uuid.UUID] = field(default_factory=dict)
    has_events: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fail(self, pattern: str, *faults: Fault) -> None:
        """Let the next requests whose "METHOD /path" matches fail, one fault each."""
        self.faults += [(pattern, fault) for fault in faults]

    def fault_of(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for place, (pattern, fault) in enumerate(self.faults):
                if re.search(pattern, request):
                    del self.faults[place]
                    return fault
        return None

    def requested(self, pattern: str) -> list[str]:
        return [request for request in self.requests if re.search(pattern, request)]

    @property
    def only_job(self) -> FakeJob:
        (job,) = self.jobs.values()
        return job

    # What the routes do

    def open_job(self, request: JobRequest, key: str | None) -> tuple[int, JobDetail]:
        with self.lock:
            if key in self.keys:
                return 200, self.detail(self.jobs[self.keys[key]])
            job = FakeJob(request, [as_item(item) for item in request.items], request.closed)
            self.jobs[job.id] = job
            if key:
                self.keys[key] = job.id
            return 201, self.detail(job)

    def add(self, job: FakeJob, request: ItemsRequest) -> Added:
        with self.lock:
            assert request.first_position is not None
            assert request.first_position <= len(job.items), "a gap"
            known = len(job.items) - request.first_position
            new = [as_item(item) for item in request.items[known:]]
            job.items += new
            job.is_closed = job.is_closed or request.closed
            return Added(added=len(new), total=len(job.items))

    def advance(self, job: FakeJob) -> None:
        with self.lock:
            if not job.is_cancelled:
                job.finished = min(len(job.items), job.finished + self.pace)

    def detail(self, job: FakeJob) -> JobDetail:
        states = [self.item_state(job, position) for position in range(len(job.items))]
        return JobDetail(
            id=job.id,
            state=job_state(job),
            owner="tests",
            model=job.request.model or "random:tiny",
            priority=job.request.priority,
            options=job.request.options,
            labels=job.request.labels,
            counts=Counts(total=len(states), **{state.value: states.count(state) for state in ItemState}),
            tokens=4 * states.count(ItemState.SUCCEEDED),
            rate=None,
            seconds_left=None,
            created_at=NOW,
            closed_at=NOW if job.is_closed else None,
            started_at=None,
            finished_at=None,
            cancelled_at=NOW if job.is_cancelled else None,
            measured_at=datetime.now(UTC),
            webhook=None,
        )

    def item_state(self, job: FakeJob, position: int) -> ItemState:
        if position >= job.finished:
            return ItemState.CANCELLED if job.is_cancelled else ItemState.QUEUED
        is_broken = "broken" in job.items[position].source and position not in job.retried
        return ItemState.FAILED if is_broken else ItemState.SUCCEEDED

    def item(self, job: FakeJob, position: int) -> Item:
        state, request = self.item_state(job, position), job.items[position]
        failed, succeeded = state is ItemState.FAILED, state is ItemState.SUCCEEDED
        return Item(
            id=list(self.jobs).index(job.id) * 10**6 + position,
            job_id=job.id,
            position=position,
            source=request.source,
            kind=request.kind,
            state=state,
            attempt=1,
            worker=None,
            not_before=None,
            error=ItemError(code="corrupt_media", message="The file is damaged: make it anew.") if failed else None,
            timings={},
            created_at=NOW,
            started_at=None,
            finished_at=None,
            embedding=embedding_of(request.source) if succeeded else None,
        )

    def find_item(self, number: int) -> Item:
        return self.item(list(self.jobs.values())[number // 10**6], number % 10**6)

    def retry_item(self, number: int) -> bool:
        item = self.find_item(number)
        if item.state is ItemState.FAILED:
            self.jobs[item.job_id].retried.add(item.position)
        return item.state is ItemState.FAILED


def as_item(item: str | ItemRequest) -> ItemRequest:
    return ItemRequest(source=item) if isinstance(item, str) else item


def job_state(job: FakeJob) -> JobState:
    if job.is_cancelled:
        return JobState.CANCELLED
    if not job.is_closed:
        return JobState.OPEN
    return JobState.FINISHED if job.finished >= len(job.items) else JobState.RUNNING


def embedding_of(source: str) -> Embedding:
    content = artefact_of(source)
    return Embedding(
        kind=MediaKind.IMAGE,
        grid_thw=(1, 4, 4),
        timestamps=None,
        frame_indices=None,
        num_tokens=4,
        dim=8,
        dtype="bfloat16",
        byte_size=len(content),
        content_sha256=hashlib.sha256(source.encode()).hexdigest(),
        object_sha256=hashlib.sha256(content).hexdigest(),
        object_key="embeddings/x",
        fingerprint="f" * 64,
    )
