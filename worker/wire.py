"""Messages over a socket between a worker and its decoding processes: a length, then so many bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from typing_extensions import Buffer

_LENGTH = struct.Struct("<Q")


def send(connection: socket.socket, message: Buffer) -> None:
    data = memoryview(message)
    connection.sendall(_LENGTH.pack(data.nbytes))
    connection.sendall(data)


def receive(
    connection: socket.socket, *, limit: int | None = None, on_silence: Callable[[], None] | None = None
) -> bytearray:
    """Wait for one message, however slowly it comes.

    Args:
        limit: bytes that the message may have.
        on_silence: called whenever the socket's timeout passes without a byte; raises to end the waiting.

    Raises:
        EOFError: the other side is gone, or sends something that is no message.
    """
    (size,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size, on_silence))
    if limit is not None and size > limit:
        raise EOFError(f"a message of {size} bytes where {limit} are the most")
    return _receive_exactly(connection, size, on_silence)


def _receive_exactly(connection: socket.socket, size: int, on_silence: Callable[[], None] | None) -> bytearray:
    data = bytearray(size)
    missing = memoryview(data)
    while missing:
        try:
            received = connection.recv_into(missing)
        except TimeoutError:
            if on_silence is not None:
                on_silence()
            continue
        if not received:
            raise EOFError("the other side is gone")
        missing = missing[received:]
    return data
