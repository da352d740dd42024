"""The plain values that the stores, the pipeline and the API hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from glm4v_client.states import DEFAULT_PRIORITY, ItemState, JobState, MediaKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One reference of a submission."""

    source: str  #: URL or path
    kind: MediaKind = MediaKind.AUTO
    options: Mapping[str, Any] | None = None  #: canonical EmbedOptions that win over the job's, one by one


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """What a producer asks for."""

    model: str
    owner: str = ""  #: name of the API key; empty on a laptop
    priority: int = DEFAULT_PRIORITY
    options: Mapping[str, Any] = field(default_factory=dict)  #: canonical EmbedOptions
    labels: Mapping[str, str] = field(default_factory=dict)  #: the producer's own notes
    idempotency_key: str | None = None  #: unique per owner: the same key again is the same job
    webhook: str | None = None  #: URL that is told when the job has ended


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedItem:
    """An item that this worker holds, until its lease expires."""

    id: int
    job_id: UUID
    position: int  #: place in the job, from 0
    source: str
    kind: MediaKind
    model: str
    options: Mapping[str, Any]  #: canonical EmbedOptions: the job's with the item's over them
    attempt: int  #: from 1; this one included
    lease_owner: str  #: unique to this claim, so that a late result is known for what it is
    suspect: bool  #: its last worker fell silent while holding it: run it alone
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRecord:
    """A stored artefact."""

    content_sha256: str  #: hex digest of the source's bytes
    fingerprint: str  #: hex digest of everything else that decides the values
    kind: MediaKind
    object_key: str
    grid_thw: tuple[int, int, int]  #: patches: temporal, vertical, horizontal
    timestamps: tuple[float, ...] | None  #: seconds, one per temporal patch; None for an image
    frame_indices: tuple[int, ...] | None  #: of the source's frames, by presentation order; None for an image
    num_tokens: int
    dim: int
    dtype: str
    byte_size: int  #: of the object
    object_sha256: str  #: hex digest of the object
    id: int | None = None  #: None until it is recorded
    created_at: datetime | None = None

    @property
    def stored_id(self) -> int:
        """The id of an embedding that came from the database."""
        if self.id is None:
            raise ValueError(f"the embedding {self.object_key} was not recorded yet")
        return self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Succeeded:
    """The item's tokens are stored; an embedding with an id was found, one without was made by this attempt."""

    item: ClaimedItem
    embedding: EmbeddingRecord
    timings: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The item will not be tried again."""

    item: ClaimedItem
    code: str
    message: str
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """The item is tried again after a while."""

    item: ClaimedItem
    code: str
    message: str
    delay_seconds: float
    timings: Mapping[str, float] = field(default_factory=dict)
    charged: bool = True  #: False: the attempt does not count, because the item is not to blame


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """The item is given back unharmed: its attempt is not counted. If its job was cancelled, so is the item."""

    item: ClaimedItem


Outcome = Succeeded | Failed | Retry | Released


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What became of outcomes that were handed to the repository."""

    accepted: frozenset[int]  #: ids of the items whose outcome counts; the others are no longer this worker's
    unused_objects: tuple[str, ...]  #: keys of objects made for nothing: the caller deletes them


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """The answer to a renewal of leases."""

    held: frozenset[int]  #: ids of the items that are still this worker's
    cancelled: frozenset[int]  #: of those, the ones whose job was cancelled: stop at the next stage


@dataclass(frozen=True, kw_only=True, slots=True)
class JobProgress:
    """How far a job is, from its counters."""

    job_id: UUID
    state: JobState
    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    tokens: int  #: visual tokens of its succeeded items
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    measured_at: datetime  #: the database's clock when this was read

    @property
    def done(self) -> int:
        """Items in a terminal state."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    id: UUID
    owner: str
    model: str
    priority: int
    options: Mapping[str, Any]
    labels: Mapping[str, str]
    idempotency_key: str | None
    webhook: str | None
    closed_at: datetime | None
    cancelled_at: datetime | None
    progress: JobProgress


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemRecord:
    id: int
    job_id: UUID
    position: int
    source: str
    kind: MediaKind
    state: ItemState
    attempt: int  #: attempts charged so far
    lease_owner: str | None
    not_before: datetime | None  #: the next attempt's due time
    error_code: str | None
    error_message: str | None
    timings: Mapping[str, float]
    created_at: datetime
    started_at: datetime | None  #: of the last attempt
    finished_at: datetime | None
    embedding: EmbeddingRecord | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchedItem:
    """A queued item that wants a message."""

    id: int
    priority: int
    suspect: bool  #: send it alone


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """How much work waits for one model."""

    model: str
    queued: int  #: items that wait, with or without a message
    dispatched: int  #: of those, the items that have a message
    running: int
    oldest_seconds: float | None  #: age of the oldest item that waits and is due; None when none does


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """What one pass over the rows mended, in items."""

    due: int  #: retries whose time came
    suspects: int  #: expired leases put back
    lost: int  #: expired leases with no attempt left: failed
    cancelled: int  #: leftovers of cancelled jobs
    redelivered: int  #: items whose message is taken for lost


@dataclass(frozen=True, kw_only=True, slots=True)
class DueDelivery:
    """An attempt at telling a webhook that its job has ended; it is this process's until its lease is over."""

    id: int
    job: JobRecord  #: as it was when it ended
    url: str
    ended_at: datetime
    attempt: int  #: from 1; this one included


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRecord:
    """An attempt that is over."""

    attempt: int
    sent_at: datetime
    seconds: float
    status: int | None  #: HTTP status; None when there was no answer
    error: str | None  #: None when it was delivered


class WebhookState(StrEnum):
    WAITING = "waiting"  #: for the job's end, or for the next attempt
    DELIVERED = "delivered"
    FAILED = "failed"  #: no further attempt is made


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookRecord:
    """What became of a job's webhook."""

    url: str
    state: WebhookState
    next_attempt_at: datetime | None  #: None: at once, or never again, or when the job ends
    deliveries: tuple[DeliveryRecord, ...]  #: the latest first


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """What a worker says of itself."""

    name: str
    model: str
    device: str
    dtype: str
    age_seconds: float  #: since its start
    held: int  #: items
    finished: int  #: items since its start
    tokens: int  #: since its start


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRecord:
    """A worker, as it was heard of last."""

    name: str
    model: str
    device: str
    dtype: str
    started_at: datetime
    seen_at: datetime
    is_alive: bool  #: it was heard of within the last minute
    held: int
    finished: int
    tokens: int
