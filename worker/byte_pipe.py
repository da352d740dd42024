"""Bytes on their way from a thread that writes them to a thread that reads them, a bounded number at a time."""

from __future__ import annotations

import threading

from typing_extensions import Buffer


class PipeBroken(Exception):  # noqa: N818 - never leaves the store
    """The other end gave up."""


class BytePipe:
    """One writer, one reader. Either may give up at any time: the other finds out instead of waiting for ever."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self._ended = False
        self._broken = False
        self._changed = threading.Condition()

    def write(self, data: Buffer) -> None:
        """Append bytes; waits while the pipe is full.

        Raises:
            PipeBroken: nobody will read them.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._broken or len(self._data) < self._limit_bytes)
            if self._broken:
                raise PipeBroken
            self._data += memoryview(data).cast("B")
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will be written."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self) -> None:
        """Give up, from either end."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end.

        Raises:
            PipeBroken: the writer gave up: what came so far is not the whole.
        """
        parts = bytearray()
        while len(parts) < size:
            with self._changed:
                self._changed.wait_for(lambda: self._broken or self._ended or self._data)
                if self._broken:
                    raise PipeBroken
                if not self._data:
                    break
                wanted = size - len(parts)
                parts += self._data[:wanted]
                del self._data[:wanted]
                self._changed.notify_all()
        return bytes(parts)
