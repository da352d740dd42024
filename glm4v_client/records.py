"""What the API takes and gives, as JSON. Times are UTC, durations seconds, sizes bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Discriminator, Field, HttpUrl, Tag

from glm4v_client.options import EmbedOptions
from glm4v_client.states import DEFAULT_PRIORITY, HIGHEST_PRIORITY, LOWEST_PRIORITY, ItemState, JobState, MediaKind

#: Items that one request may carry; a job takes any number of requests until it is closed.
MOST_ITEMS = 10_000
#: Labels of one job.
MOST_LABELS = 32

Text = Annotated[str, Field(min_length=1, max_length=8192, pattern=r"^[^\x00]*$")]
#: Part of indexes and of queues' names.
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
Priority = Annotated[int, Field(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)]

Record = TypeVar("Record", bound=BaseModel)


class Request(BaseModel):
    """A body that we are sent: what is not known is refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """A body that we send: a newer service may add to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ItemRequest(Request):
    """One reference."""

    source: Text = Field(description="http(s)://, s3://bucket/key, file:// or an upload's reference")
    kind: MediaKind = Field(MediaKind.AUTO, description="image or video; auto looks into the file")
    options: EmbedOptions | None = Field(None, description="win over the job's options, one by one")


def _form(value: object) -> str:
    return "text" if isinstance(value, str) else "item"


#: Told apart by their form, so that a mistake in one is not also told as a mistake in the other.
AnyItem = Annotated[Annotated[Text, Tag("text")] | Annotated[ItemRequest, Tag("item")], Discriminator(_form)]
Items = Annotated[list[AnyItem], Field(max_length=MOST_ITEMS)]
Labels = Annotated[
    dict[LabelName, LabelValue],
    # The names' pattern alone would leave names that do not match it to the reader's fancy.
    Field(max_length=MOST_LABELS, json_schema_extra={"additionalProperties": False}),
]


class JobRequest(Request):
    """A new job. It is closed with this request unless more items are announced by `closed=false`."""

    items: Items = Field(default_factory=list, description="sources, as text or with kind and options")
    model: ModelName | None = Field(None, description="which model's workers embed it; the service's own if not set")
    priority: Priority = Field(DEFAULT_PRIORITY, description="0 to 9; the larger number runs first")
    options: EmbedOptions = Field(EmbedOptions(), description="for every item that has none of its own")
    labels: Labels = Field(default_factory=dict, description="your own notes, shown and searchable")
    webhook: HttpUrl | None = Field(None, description="is sent the job when it has ended")
    closed: bool = Field(True, description="false: more items follow; close the job after the last of them")


class ItemsRequest(Request):
    """More items of an open job.

    `first_position` makes a repetition harmless: the service knows which positions it has already.
    """

    items: Items
    first_position: Annotated[int, Field(ge=0)] | None = Field(
        None, description="place in the job of the first of these items, counted from 0; after the last one if not set"
    )
    closed: bool = Field(False, description="true: these are the last items of the job")


class Counts(Answer):
    """Items of a job by state."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int

    @property
    def done(self) -> int:
        """Items that will not change any more by themselves."""
        return self.succeeded + self.failed + self.cancelled


class Delivery(Answer):
    """One attempt at telling a webhook that its job has ended."""

    attempt: int
    sent_at: datetime
    seconds: float
    status: int | None = Field(description="HTTP status; null when there was no answer")
    error: str | None


class Webhook(Answer):
    """Who is told when a job has ended, and whether that worked."""

    url: str
    state: str = Field(description="waiting, delivered or failed")
    next_attempt_at: datetime | None
    deliveries: list[Delivery] = Field(description="the latest first, at most 20")


class Job(Answer):
    """A job and how far it is. The numbers come from counters and cost the same for ten items and for ten million."""

    id: UUID
    state: JobState
    owner: str = Field(description="name of the API key that made it")
    model: str
    priority: int
    options: EmbedOptions
    labels: dict[str, str]
    counts: Counts
    tokens: int = Field(description="visual tokens of its succeeded items")
    rate: float | None = Field(description="items a second since it started; null before that")
    seconds_left: float | None = Field(description="an estimate from the rate; null when there is none")
    created_at: datetime
    closed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancelled_at: datetime | None
    measured_at: datetime = Field(description="when these numbers were read")


class JobDetail(Job):
    """One job, with what is shown only when it is asked for by its id."""

    webhook: Webhook | None


class ItemError(Answer):
    """Why an item failed, or why its last attempt did."""

    code: str = Field(description="stable; docs/api.md lists them")
    message: str = Field(description="one sentence that says what to do")


class Embedding(Answer):
    """A stored artefact: what is known of it without reading it."""

    kind: MediaKind
    grid_thw: tuple[int, int, int] = Field(description="patches along time, height and width")
    timestamps: list[float] | None = Field(description="seconds, one for each temporal patch; null for an image")
    frame_indices: list[int] | None = Field(description="of the source's frames; null for an image")
    num_tokens: int
    dim: int
    dtype: str
    byte_size: int
    content_sha256: str = Field(description="of the source's bytes")
    object_sha256: str = Field(description="of the artefact")
    object_key: str = Field(description="of the artefact in the store")
    fingerprint: str = Field(description="of everything else that decides the values")


class Item(Answer):
    """One reference of a job."""

    id: int
    job_id: UUID
    position: int = Field(description="place in the job, from 0")
    source: str
    kind: MediaKind
    state: ItemState
    attempt: int = Field(description="attempts so far")
    worker: str | None = Field(description="who holds it, or held it last")
    not_before: datetime | None = Field(description="when its next attempt is due")
    error: ItemError | None
    timings: dict[str, float] = Field(description="seconds of its last attempt by stage")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    embedding: Embedding | None


class Page(Answer, Generic[Record]):
    """Some of a list. `next_cursor` fetches what follows; null at the end."""

    entries: list[Record]
    next_cursor: str | None


class Added(Answer):
    """Items that were added to a job."""

    added: int
    total: int


class Retried(Answer):
    """Failed items that were queued again."""

    retried: int


class Upload(Answer):
    """A file that the service keeps for its workers."""

    source: str = Field(description="the reference to submit")
    byte_size: int
    sha256: str


class Worker(Answer):
    """A process that embeds."""

    name: str
    model: str
    device: str
    dtype: str
    started_at: datetime
    seen_at: datetime
    is_alive: bool = Field(description="it was heard of within the last minute")
    held: int = Field(description="items that it holds")
    finished: int = Field(description="items since its start")
    tokens: int = Field(description="visual tokens since its start")


class Queue(Answer):
    """Work that waits for one model."""

    model: str
    queued: int
    running: int
    oldest_seconds: float | None = Field(description="age of the oldest item that waits; null when none does")


class Problem(BaseModel):
    """An error as application/problem+json (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(description="stable; docs/api.md lists them")
    detail: str = Field(description="one sentence that says what to do")
