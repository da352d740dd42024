"""A model hub on loopback, as much of its protocol as a download needs, with the troubles that one meets."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlparse

COMMIT = "a" * 40


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request for a file's content."""

    file: str
    #: First byte and the byte after the last one; None for the whole file.
    range: tuple[int, int] | None
    token: str | None
    #: Whether the server that keeps the files was asked, or the hub itself.
    by_storage: bool


@dataclass(kw_only=True)
class Trouble:
    """What goes wrong with the next requests for a file's bytes; each happens as often as it says."""

    #: Answered with 429 and Retry-After.
    busy: int = 0
    #: Closed half-way through the bytes.
    cut: int = 0
    #: Answered with 503.
    unavailable: int = 0
    #: Called before each range is sent.
    before: Callable[[], None] = field(default=lambda: None)
    #: Ignore Range, and send everything.
    whole: bool = False
    #: Tell of the model, and refuse its files to who has not accepted its terms.
    gated: bool = False
    #: Answer every question with a page for people, as a portal does.
    portal: bool = False

    def take(self, name: str) -> bool:
        left = getattr(self, name)
        setattr(self, name, left - (left > 0))
        return bool(left > 0)


class HubServer:
    """Serves one model's files from a folder; safetensors files from another port, to which it redirects.

    `downloaded` names the files whose content was asked for; `asked` says more about each such request.
    """

    def __init__(self, name: str, folder: Path, *, token: str | None = None, commit: str = COMMIT) -> None:
        """
        Args:
            token: without it the hub behaves as if there were no such model.
        """
        self.name, self.folder, self.token, self.commit = name, folder, token, commit
        self.trouble = Trouble()
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._hub = _Server(("127.0.0.1", 0), _handler(self, by_storage=False))
        self._storage = _Server(("127.0.0.1", 0), _handler(self, by_storage=True))
        self.url = f"http://127.0.0.1:{self._hub.server_port}"
        self.storage_url = f"http://127.0.0.1:{self._storage.server_port}"

    def __enter__(self) -> HubServer:
        for server in (self._hub, self._storage):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()

    @property
    def downloaded(self) -> list[str]:
        return [request.file for request in self.asked]

    def bytes_asked(self, file: str) -> int:
        """Of a file's content, in ranges; the whole file where none was named."""
        size = (self.folder / file).stat().st_size
        ranges = [request.range or (0, size) for request in self.asked if request.file == file]
        return sum(end - begin for begin, end in ranges)

    def note(self, request: Asked) -> None:
        with self._lock:
            self.asked.append(request)

    def takes(self, trouble: str) -> bool:
        with self._lock:
            return self.trouble.take(trouble)

    def describe(self, path: str) -> bytes:
        """The model's page in the hub's API: its commit and its files."""
        files = [
            {"type": "file", "rfilename": file.name, "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
            for file in sorted(self.folder.iterdir())
        ]
        if "/tree/" in path:
            return json.dumps(files).encode()
        return json.dumps(
            {"id": self.name, "sha": self.commit, "siblings": files, "private": False, "tags": []}
        ).encode()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up hangs up; anything else is this server's own fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(hub: HubServer, *, by_storage: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(_HubHandler):
        pass

    Handler.hub, Handler.by_storage = hub, by_storage
    return Handler


class _HubHandler(BaseHTTPRequestHandler):
    hub: HubServer
    by_storage: bool
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Quiet: the tests read what was asked for instead."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        if self.hub.trouble.portal:
            self._send(b"<html>please log in</html>", "text/html", with_body)
        elif self.hub.trouble.gated and "/resolve/" in path:
            self._refuse(403, "GatedRepo")
        elif not self.by_storage and self.hub.token not in (None, self._token()):
            self._refuse(401, "RepoNotFound")
        elif path.startswith(f"/api/models/{self.hub.name}"):
            self._describe(path, with_body)
        elif path.startswith(f"/{self.hub.name}/resolve/"):
            self._send_file(path.split("/resolve/")[1].split("/", 1)[1], with_body)
        else:
            self._refuse(404, "RepoNotFound")

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _describe(self, path: str, with_body: bool) -> None:
        revision = path.partition("/revision/")[2] or "main"
        if revision not in ("main", self.hub.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            self._send(self.hub.describe(path), "application/json", with_body)

    def _send_file(self, name: str, with_body: bool) -> None:
        file = self.hub.folder / name
        if not file.is_file():
            self._refuse(404, "EntryNotFound")
        elif name.endswith(".safetensors") and not self.by_storage:
            self._redirect(f"{self.hub.storage_url}{self.path}", file)
        elif not with_body:
            self._send(file.read_bytes(), "application/octet-stream", with_body)
        elif self.hub.takes("busy"):
            self._refuse(429, None, {"Retry-After": "7"})
        elif self.hub.takes("unavailable"):
            self._refuse(503, None)
        else:
            self._send_content(file)

    def _send_content(self, file: Path) -> None:
        content = file.read_bytes()
        wanted = None if self.hub.trouble.whole else self._range(len(content))
        self.hub.note(Asked(file=file.name, range=wanted, token=self._token(), by_storage=self.by_storage))
        self.hub.trouble.before()
        if wanted is None:
            self._send(content, "application/octet-stream", True)
            return
        begin, end = wanted
        body = content[begin:end]
        headers = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        self._send(body, "application/octet-stream", True, status=206, headers=headers)

    def _range(self, size: int) -> tuple[int, int] | None:
        if "Range" not in self.headers:
            return None
        begin, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        return int(begin), min(int(last) + 1, size)

    def _redirect(self, location: str, file: Path) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
        self.send_header("X-Linked-Size", str(file.stat().st_size))
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(
        self,
        body: bytes,
        content_type: str,
        with_body: bool,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            cut = status == 206 and len(body) > 1000 and self.hub.takes("cut")
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = self.close_connection or cut
