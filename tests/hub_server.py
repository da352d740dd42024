"""A model hub on loopback, as much of its protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlparse

COMMIT = "a" * 40


class HubServer:
    """Serves one model's files from a folder. `downloaded` names the files whose content was asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.downloaded: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def log_message(self, *_: object) -> None:
                """Quiet: the tests read what was downloaded instead."""

            def _answer(self, *, with_body: bool) -> None:
                path = unquote(urlparse(self.path).path)
                if path.startswith(f"/api/models/{hub.name}"):
                    self._send(hub.describe(path), "application/json", with_body)
                elif path.startswith(f"/{hub.name}/resolve/"):
                    self._send_file(path.split("/resolve/")[1].split("/", 1)[1], with_body)
                else:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def _send_file(self, name: str, with_body: bool) -> None:
                file = hub.folder / name
                if not file.is_file():
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if with_body:
                    hub.downloaded.append(name)
                self._send(file.read_bytes(), "application/octet-stream", with_body)

            def _send(self, body: bytes, content_type: str, with_body: bool) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

        return Handler

    def describe(self, path: str) -> bytes:
        """The model's page in the hub's API: its commit and its files."""
        files = [
            {"type": "file", "rfilename": file.name, "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
            for file in sorted(self.folder.iterdir())
        ]
        if "/tree/" in path:
            return json.dumps(files).encode()
        return json.dumps({"id": self.name, "sha": COMMIT, "siblings": files, "private": False, "tags": []}).encode()
