"""A line to a server of this machine that loses the ends of answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress


class LossyLine:
    """Passes requests on whole, and of each connection's answers only so many bytes before it breaks the connection.

    A line that passes none on breaks when the answer comes, so that the request has had its effect.
    """

    def __init__(self, server_port: int, passed_bytes: Iterator[int | None]) -> None:
        """
        Args:
            passed_bytes: of the answers of one connection after another; None passes everything on.
        """
        self._server_port = server_port
        self._passed_bytes = passed_bytes
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = 0
        threading.Thread(target=self._accept, name="lossy line", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client, next(self._passed_bytes)), daemon=True).start()

    def _serve(self, client: socket.socket, passed: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            requests = threading.Thread(target=self._requests, args=(client, server), daemon=True)
            requests.start()
            self._answers(server, client, passed)
            _end(client)
            _end(server)
            requests.join()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _end(server)

    def _answers(self, server: socket.socket, client: socket.socket, passed: int | None) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if passed is not None and len(data) >= passed:
                    client.sendall(data[:passed])
                    self.broken += 1
                    return
                passed = None if passed is None else passed - len(data)
                client.sendall(data)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
