"""What stands between a worker and its servers when a test needs them to fail: a proxy, and a web server of media."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum

from tests.servers import free_port


class Fault(Enum):
    NONE = "pass everything on"
    DOWN = "drop every connection"
    SLOW = "keep every answer back for a while"
    BROKEN = "answer every request with status 500"


class FaultyProxy:
    """Passes connections on to a server of this machine, or does not. A new fault ends the connections there are."""

    slow_seconds = 1.0

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = free_port()
        self._fault = Fault.NONE
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        self._set(fault)
        try:
            yield
        finally:
            self._set(Fault.NONE)

    def close(self) -> None:
        self._listener.close()
        self._set(Fault.DOWN)

    def _set(self, fault: Fault) -> None:
        with self._lock:
            self._fault = fault
            for connection in self._open:
                _reset(connection)
            self._open.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._open.add(client)
                    fault = self._fault
                threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault) -> None:
        with client, suppress(OSError):
            if fault is Fault.DOWN:
                _reset(client)
            elif fault is Fault.BROKEN:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                self._pass_on(client, self.slow_seconds if fault is Fault.SLOW else 0.0)

    def _pass_on(self, client: socket.socket, delay: float) -> None:
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            with self._lock:
                self._open.add(server)
            back = threading.Thread(target=_pump, args=(server, client, delay), daemon=True)
            back.start()
            _pump(client, server, 0.0)
            back.join()
            with self._lock:
                self._open -= {client, server}


def _pump(source: socket.socket, sink: socket.socket, delay: float) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if delay:
                time.sleep(delay)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """End a connection the hard way, with RST, in whatever thread it is being read."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


class MediaServer:
    """Serves bytes over HTTP on this machine, each answer after `delay(path)` seconds."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """
        Args:
            files: by path, from the slash on; more may be added to it at any time.
        """
        self.files = files
        self.delay_seconds: Callable[[str], float] = _no_delay
        handler = type("Handler", (_MediaHandler,), {"media": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="media", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _no_delay(path: str) -> float:
    return 0.0


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that was killed breaks its connections: no news."""


class _MediaHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    media: MediaServer

    def do_GET(self) -> None:
        time.sleep(self.media.delay_seconds(self.path))
        data = self.media.files.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server uses
        """Nothing: the tests have their own output."""
