"""A service on loopback that speaks the wire contract of glm4v_client.records, remembers what it is asked, and fails
where a test says so.

Nothing happens in it by time: every look at a job finishes `pace` more of its items. An item whose source holds
"broken" fails as corrupt_media, the others succeed.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

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
    Page,
    Problem,
    Queue,
    Retried,
    Upload,
    Worker,
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


Fault = Dropped | Refused | Cut | Flipped | Unranged


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


class Requests(BaseHTTPRequestHandler):
    """One connection of the fake."""

    protocol_version = "HTTP/1.1"
    service: FakeService

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.fault = self.service.fault_of(f"{self.command} {self.path}")
        self.service.headers.append({name.lower(): value for name, value in self.headers.items()})
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match self.fault:
            case Dropped(after_effect=False):
                self.drop()
            case Refused(status, headers, text):
                self.reply(status, text, headers)
            case _:
                self.route(url.path.strip("/").split("/")[1:], query, body)

    do_GET = do_POST = do_DELETE = answer

    def route(self, path: list[str], query: dict[str, str], body: bytes) -> None:
        service = self.service
        if service.key and self.headers.get("authorization") != f"Bearer {service.key}":
            return self.problem(401, "unauthorized")
        match self.command, *path:
            case "POST", "jobs":
                status, job = service.open_job(JobRequest.model_validate_json(body), self.headers["idempotency-key"])
                self.json(status, job)
            case "GET", "jobs":
                found = [service.detail(job) for job in service.jobs.values()]
                self.page(found, query)
            case "POST", "uploads":
                source = f"s3://media/uploads/{hashlib.sha256(body).hexdigest()}/{query['name']}"
                service.uploads[source] = body
                self.json(201, Upload(source=source, byte_size=len(body), sha256=hashlib.sha256(body).hexdigest()))
            case "GET", "workers":
                self.page([WORKER], query)
            case "GET", "queues":
                self.page([Queue(model="random:tiny", queued=3, running=1, oldest_seconds=2.5)], query)
            case "GET", "items", number:
                self.json(200, service.find_item(int(number)))
            case "GET", "items", number, "embedding":
                self.artefact(artefact_of(service.find_item(int(number)).source))
            case method, "jobs", id, *rest if uuid.UUID(id) in service.jobs:
                self.job(service.jobs[uuid.UUID(id)], [method, *rest], query, body)
            case _:
                self.problem(404, "job_not_found")

    def job(self, job: FakeJob, route: list[str], query: dict[str, str], body: bytes) -> None:
        service = self.service
        match route:
            case ["GET"]:
                service.advance(job)
                self.json(200, service.detail(job))
            case ["DELETE"]:
                del service.jobs[job.id]
                self.reply(204, b"")
            case ["POST", "items"]:
                self.json(200, service.add(job, ItemsRequest.model_validate_json(body)))
            case ["GET", "items"]:
                self.page(list(self.chosen(job, query)), query)
            case ["POST", "cancel"]:
                job.is_cancelled = job.is_closed = True
                self.json(200, service.detail(job))
            case ["POST", "retry"]:
                failed = {item.position for item in self.chosen(job, {**query, "state": "failed"})}
                job.retried |= failed
                self.json(200, Retried(retried=len(failed)))
            case ["GET", "events"] if service.has_events:
                self.events(job)
            case _:
                self.problem(404, "not_found")

    def chosen(self, job: FakeJob, query: dict[str, str]) -> Iterator[Item]:
        for position in range(len(job.items)):
            item = self.service.item(job, position)
            if query.get("state", item.state) == item.state:
                if "code" not in query or (item.error and item.error.code == query["code"]):
                    yield item

    def events(self, job: FakeJob) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        left = self.fault.after if isinstance(self.fault, Cut) else 10**9
        is_last = False
        while not is_last:
            detail = self.service.detail(job)
            is_last = detail.state in (JobState.FINISHED, JobState.CANCELLED)
            name = "end" if is_last else "progress"
            event = f": a comment\n\nevent: {name}\ndata: {detail.model_dump_json()}\n\n".encode()
            self.wfile.write(event[:left])
            left -= len(event)
            if left <= 0:
                return self.drop()
            self.service.advance(job)
        self.close_connection = True

    def artefact(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        start = int(asked[1]) if asked and not isinstance(self.fault, Unranged) else 0
        self.reply(206 if start else 200, content[start:])

    def page(self, entries: Iterable[BaseModel], query: dict[str, str]) -> None:
        listed, start = list(entries), int(query.get("cursor", 0))
        end = start + self.service.page
        cursor = str(end) if end < len(listed) else None
        self.json(200, Page[Any](entries=listed[start:end], next_cursor=cursor))

    def json(self, status: int, record: BaseModel) -> None:
        self.reply(status, record.model_dump_json().encode(), {"content-type": "application/json"})

    def problem(self, status: int, code: str) -> None:
        text = Problem(type="about:blank", title=code, status=status, code=code, detail="What to do.").model_dump_json()
        self.reply(status, text.encode(), {"content-type": "application/problem+json", "x-request-id": "r-17"})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if isinstance(self.fault, Dropped):
            return self.drop()
        if isinstance(self.fault, Flipped):
            at = self.fault.at % len(body)
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if isinstance(self.fault, Cut):
            self.wfile.write(body[: self.fault.after])
            return self.drop()
        self.wfile.write(body)

    def drop(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: a test reads its own output."""


WORKER = Worker(
    name="w1",
    model="random:tiny",
    device="cpu",
    dtype="float32",
    started_at=NOW,
    seen_at=NOW,
    is_alive=True,
    held=0,
    finished=7,
    tokens=28,
)


@contextmanager
def fake_service() -> Iterator[FakeService]:
    """Serve until the block ends."""
    service = FakeService()
    handler = type("ItsRequests", (Requests,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
