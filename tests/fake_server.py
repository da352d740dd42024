"""The routes of tests.fake_service, on loopback."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

from glm4v_client.records import Item, ItemsRequest, JobRequest, Page, Problem, Queue, Retried, Upload, Worker
from glm4v_client.states import JobState
from tests.artefacts import artefact_of
from tests.fake_service import NOW, Cut, Dropped, FakeJob, FakeService, Flipped, Held, Refused, Unranged


@contextmanager
def fake_service() -> Iterator[FakeService]:
    """Serve until the block ends."""
    service = FakeService()
    handler = type("ItsRequests", (Requests,), {"service": service})
    server = Server(("127.0.0.1", 0), handler)
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


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that has gone is what some tests are about.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


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
            case Held(until):
                assert until.wait(60)
                self.route(url.path.strip("/").split("/")[1:], query, body)
            case _:
                self.route(url.path.strip("/").split("/")[1:], query, body)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def route(self, path: list[str], query: dict[str, str], body: bytes) -> None:
        service = self.service
        if service.key and self.headers.get("authorization") != f"Bearer {service.key}":
            self.problem(401, "unauthorized")
            return
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
            case "POST", "items", number, "retry":
                self.json(200, Retried(retried=int(service.retry_item(int(number)))))
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
            code = item.error.code if item.error else None
            if query.get("state", item.state) == item.state and query.get("code", code) == code:
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
                self.drop()
                return
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
            self.drop()
            return
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
            self.drop()
        else:
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
