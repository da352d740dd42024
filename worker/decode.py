"""Decoding in child processes: a file that crashes, hangs or eats a codec costs one child and not the worker."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from glm4v_client.states import MediaKind
from worker import wire
from worker.error_codes import error_from_code
from worker.errors import DecoderCrashed, DecodeTimeout

#: Seconds between two looks at whether anybody still wants the item.
_GLANCE = 0.2
#: Bytes. A header lists the frames and times of a clip.
_LONGEST_MESSAGE = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What decoding one reference may cost."""

    max_image_pixels: int
    max_frame_pixels: int
    max_frames: int
    max_duration_seconds: float


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a reference becomes, known before its first patch."""

    grid_thw: tuple[int, int, int]
    #: Seconds, one per temporal patch; None for an image.
    timestamps: tuple[float, ...] | None
    #: Of the source's frames, in presentation order; None for an image.
    frame_indices: tuple[int, ...] | None
    #: Bytes of one patch.
    width: int
    #: Temporal patches in every chunk but the last.
    chunk_segments: int

    def chunk_sizes(self) -> Iterator[int]:
        """Temporal patches of each chunk, in order."""
        for start in range(0, self.grid_thw[0], self.chunk_segments):
            yield min(self.chunk_segments, self.grid_thw[0] - start)

    def chunk_bytes(self, segments: int) -> int:
        return segments * self.grid_thw[1] * self.grid_thw[2] * self.width


class DecoderPool:
    """At most `size` child processes, started when they are first needed and kept. Safe to use from many threads."""

    def __init__(self, *, size: int, timeout_seconds: float, chunk_patches: int, limits: DecodeLimits) -> None:
        """
        Args:
            timeout_seconds: for which the decoding of one reference may keep its reader waiting.
            chunk_patches: patches of a clip in one chunk, unless one segment has more.
        """
        self._timeout_seconds = timeout_seconds
        self._request = {"chunk_patches": chunk_patches, "limits": asdict(limits)}
        self._free = threading.Semaphore(size)
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to load what the children need; returns at once."""
        multiprocessing.set_forkserver_preload(["worker.decode_child"])
        # Children do not end by a signal meant for the worker: it still needs them while it drains. They inherit the
        # mask, and end when their worker does.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    def stop(self) -> None:
        """End the children that are idle; one that is busy ends when its reader is done."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()

    @contextmanager
    def reserve(self, *, check: Callable[[], None]) -> Iterator[Decoder]:
        """Wait for a free child and have it for one file, at most for the length of a `with` block.

        Args:
            check: called again and again while waiting; raises when nobody wants the item any more.
        """
        while not self._free.acquire(timeout=_GLANCE):
            check()
        with ExitStack() as taken:
            taken.callback(self._free.release)
            child = self._take_idle() or _Child()
            taken.callback(self._put_back, child)
            yield Decoder(child, self._request, self._timeout_seconds, check=check, release=taken.close)

    def _take_idle(self) -> _Child | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, child: _Child) -> None:
        if child.is_busy:
            # It works for nobody, or it is stuck, or it is dead. The next item gets a new one.
            child.kill()
            return
        with self._lock:
            self._idle.append(child)


class Decoder:
    """A child that is reserved for one file."""

    def __init__(
        self,
        child: _Child,
        limits: Mapping[str, Any],
        timeout_seconds: float,
        *,
        check: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        self._child = child
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._check = check
        self._release = release

    def decode(self, path: Path, kind: MediaKind, processor_settings: Mapping[str, Any]) -> Decoding:
        """Begin with a file, as an image or a video.

        Raises:
            EmbedError: the file cannot be decoded, or nobody wants it any more.
        """
        self._child.send({**self._limits, "path": str(path), "kind": kind, "processor": processor_settings})
        return Decoding(self._child, self._timeout_seconds, check=self._check, release=self._release)


class Decoding:
    """One file in one child: its header, then its chunks."""

    def __init__(
        self, child: _Child, timeout_seconds: float, *, check: Callable[[], None], release: Callable[[], None]
    ) -> None:
        self._child = child
        self._patience = timeout_seconds
        self._check = check
        self._release = release
        self.header = _header(_understand(self._receive(limit=_LONGEST_MESSAGE), child))

    def read_chunk(self, segments: int) -> memoryview:
        """The next chunk, uint8 (segments*h*w, width). The child decodes one chunk ahead, no further.

        Raises:
            EmbedError: the file is damaged, decoding takes too long, or nobody wants it any more.
        """
        size = self.header.chunk_bytes(segments)
        data = self._receive(limit=size)
        if len(data) != size:
            # In place of a chunk comes the reason why there is none; no reason is as long as a chunk.
            _understand(data, self._child)
            raise DecoderCrashed
        return memoryview(data)

    def finish(self) -> None:
        """Call after the last chunk: the child is free for another file, unless this one turns out damaged yet."""
        _understand(self._receive(limit=_LONGEST_MESSAGE), self._child)
        self._child.is_busy = False
        self._release()

    def _receive(self, *, limit: int) -> bytearray:
        """Wait for the child; the time that its reader takes between two messages does not count."""
        begun = time.monotonic()

        def glance() -> None:
            self._check()
            if time.monotonic() - begun > self._patience:
                raise DecodeTimeout

        data = self._child.receive(limit=limit, on_silence=glance)
        self._patience -= time.monotonic() - begun
        self._check()
        return data


def _understand(data: bytearray, child: _Child) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(data)
    if "error" in message:
        # It has told all that it will: the child waits for its next file.
        child.is_busy = False
        raise error_from_code(message["error"], message["message"])
    return message


def _header(message: Mapping[str, Any]) -> Header:
    timestamps, frame_indices = message["timestamps"], message["frame_indices"]
    t, h, w = message["grid_thw"]
    return Header(
        grid_thw=(t, h, w),
        timestamps=None if timestamps is None else tuple(timestamps),
        frame_indices=None if frame_indices is None else tuple(frame_indices),
        width=message["width"],
        chunk_segments=message["chunk_segments"],
    )


class _Child:
    """A decoding process and the socket to it. Nothing that it says is unpickled: it has read a stranger's file."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_GLANCE)
        with theirs:
            context = multiprocessing.get_context("forkserver")
            self._process = context.Process(target=_serve, args=(theirs,), name="decoder", daemon=True)
            self._process.start()
        self.is_busy = False

    def send(self, message: Mapping[str, Any]) -> None:
        self.is_busy = True
        with self._crash_errors():
            wire.send(self._connection, json.dumps(message).encode())

    def receive(self, *, limit: int, on_silence: Callable[[], None]) -> bytearray:
        with self._crash_errors():
            return wire.receive(self._connection, limit=limit, on_silence=on_silence)

    @contextmanager
    def _crash_errors(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._process.join(timeout=1)
            raise DecoderCrashed(
                f"The decoding process died on this file ({_ending(self._process.exitcode)}):"
                " check the file and the memory left on the worker."
            ) from error

    def kill(self) -> None:
        self._process.kill()
        self._connection.close()


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def _serve(connection: socket.socket) -> None:
    from worker.decode_child import serve

    serve(connection)
