"""Requests on their way into forwards: what has been taken of each, in which batch, and what has come back."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, replace

from worker.batching import Waiting
from worker.encoding import EncodeRequest, Forward, Tokens, join
from worker.errors import DeviceFailed, EmbedError


class Entry:
    """A request, how much of it has been taken, and what has come back."""

    def __init__(self, request: EncodeRequest) -> None:
        self.request = request
        #: Seconds of `time.monotonic`.
        self.arrived = time.monotonic()
        self.future: Future[Tokens] = Future()
        self.segments_left = request.segments
        self._parts: list[Tokens] = []
        self._segments_missing = request.segments

    def begin(self) -> bool:
        """Call before something is taken; False if it was cancelled, which from here on it cannot be."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def waiting(self) -> Waiting:
        return Waiting(segments=self.segments_left, patches=self.request.segment_patches, alone=self.request.alone)

    def take(self, segments: int) -> Piece:
        start = self.request.segments - self.segments_left
        self.segments_left -= segments
        return Piece(entry=self, request=self.request.part(start, segments))

    def deliver(self, tokens: Tokens, segments: int) -> None:
        # Forwards end in the order in which they began, so the parts come in order.
        self._parts.append(tokens)
        self._segments_missing -= segments
        if not self._segments_missing and not self.future.done():
            self.future.set_result(join(self._parts))

    def fail(self, error: EmbedError) -> None:
        self.segments_left = 0
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The segments of one request that go into one forward."""

    entry: Entry
    request: EncodeRequest


@dataclass(kw_only=True)
class Batch:
    """What one forward encodes, or the reason why it could not begin."""

    pieces: list[Piece]
    #: Seconds of `time.monotonic`.
    started: float
    forward: Forward | None = None
    error: Exception | None = None

    def tokens(self) -> list[Tokens]:
        if self.forward is None:
            raise self.error or DeviceFailed()
        return self.forward.tokens()


def halves(pieces: list[Piece]) -> list[list[Piece]]:
    """Two batches of about half the requests each; of a single request, of half its segments."""
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return [pieces[:middle], pieces[middle:]]
    return [
        [replace(piece, request=piece.request.part(start, segments))]
        for piece in pieces
        for start, segments in _split(piece.request.segments)
    ]


def _split(segments: int) -> list[tuple[int, int]]:
    first = segments // 2
    return [(0, first), (first, segments - first)]
