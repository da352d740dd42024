"""The one thread that uses the encoder, and what waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from worker.batching import next_batch
from worker.encoding import Encoder, EncodeRequest, OutOfDeviceMemory, Tokens
from worker.errors import DeviceFailed, EmbedError, TooLargeForDevice, WorkerStopping
from worker.forwards import Batch, Entry, Piece, halves

log = logging.getLogger(__name__)

#: Patches down and across of the picture that shows whether the encoder works: 8 x 8 is the smallest a photo becomes.
_PROBE_EDGE = 8
_PROBE_WIDTH = 588
_LONGEST_FORWARD_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class EngineStatistics:
    """Totals since the start."""

    forwards: int = 0
    patches: int = 0
    #: Patches that these forwards could have held: `patches` over this is how full they were.
    room: int = 0
    tokens: int = 0
    #: Seconds during which the encoder had a batch.
    busy_seconds: float = 0.0
    out_of_memory: int = 0
    failures: int = 0


class Engine:
    """Packs segments of many requests into forwards, and hands each request its tokens.

    A batch that fails is tried again in halves: that cures a lack of memory as well as a poisonous neighbour. What
    fails by itself fails alone, and the thread goes on.
    """

    def __init__(self, encoder: Encoder, *, patch_budget: int, wait_seconds: float = 0.0) -> None:
        """
        Args:
            patch_budget: patches in one forward, at most; lowered when the device has no room for them.
            wait_seconds: how long the oldest request waits at most for others to fill its batch.
        """
        self.encoder = encoder
        self._patch_budget = patch_budget
        self._wait_seconds = wait_seconds
        self._queue: list[Entry] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._broken: EmbedError | None = None
        self._statistics = EngineStatistics()
        self._last_finish = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread and run the encoder once, so that the first item does not pay for it.

        Raises:
            EmbedError: the encoder does not work.
        """
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self.submit(_probe(1)).result()
        if self.encoder.runs_ahead:
            # Also takes the memory that a full batch needs, while there is nothing to lose.
            self.submit(_probe(max(1, self._patch_budget // _PROBE_EDGE**2))).result()

    def stop(self) -> None:
        """Give back what no forward has begun, finish the one that runs, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._abandon(WorkerStopping())
        if self._thread is not None:
            # A device that hangs must not keep the process from ending.
            self._thread.join(_LONGEST_FORWARD_SECONDS)

    def submit(self, request: EncodeRequest) -> Future[Tokens]:
        """Queue segments. Cancel the future to take back those that no forward has begun.

        The future raises an EmbedError if they cannot be encoded.
        """
        entry = Entry(request)
        with self._changed:
            if self._broken is not None or self._stopping:
                entry.fail(self._broken or WorkerStopping())
            else:
                self._queue.append(entry)
                self._changed.notify_all()
        return entry.future

    @property
    def broken(self) -> EmbedError | None:
        """Why the encoder no longer works at all, if so: only a new process helps."""
        return self._broken

    def statistics(self) -> EngineStatistics:
        return self._statistics

    def _run(self) -> None:
        ahead: Batch | None = None
        while True:
            batch = self._take(running=ahead is not None)
            if batch is None and ahead is None:
                return
            started = None if batch is None else self._start(batch)
            if ahead is not None:
                self._finish(ahead)
            if started is not None and (started.error or not self.encoder.runs_ahead):
                self._finish(started)
                started = None
            ahead = started

    def _take(self, *, running: bool) -> list[Piece] | None:
        """The next batch; None if there is none yet while another is running, or when the engine stops."""
        with self._changed:
            while not self._stopping:
                if running and not self._is_full():
                    # What has not come by the time the device is free may still come: a fuller batch costs nothing.
                    return None
                self._changed.wait_for(lambda: self._queue or self._stopping)
                self._wait_for_company()
                if pieces := self._next_pieces():
                    return pieces
            return None

    def _wait_for_company(self) -> None:
        """Wait for more requests, if the encoder would otherwise run half empty. Waiting for it counts as well."""
        if not self._queue:
            return
        left = self._queue[0].arrived + self._wait_seconds - time.monotonic()
        if left > 0:
            self._changed.wait_for(lambda: self._is_full() or self._stopping, left)

    def _is_full(self) -> bool:
        patches = sum(entry.segments_left * entry.request.segment_patches for entry in self._queue)
        return patches >= self._patch_budget or any(entry.request.alone for entry in self._queue[:1])

    def _next_pieces(self) -> list[Piece]:
        self._queue = [entry for entry in self._queue if not entry.future.done()]
        shares = next_batch((entry.waiting() for entry in self._queue), self._patch_budget)
        chosen = [(self._queue[share.index], share.segments) for share in shares]
        pieces = [entry.take(segments) for entry, segments in chosen if entry.begin()]
        self._queue = [entry for entry in self._queue if entry.segments_left]
        return pieces

    def _start(self, pieces: list[Piece]) -> Batch:
        batch = Batch(pieces=pieces, started=time.monotonic())
        try:
            batch.forward = self.encoder.start([piece.request for piece in pieces])
        except Exception as error:  # noqa: BLE001 - any failure belongs to these pieces, and never to the thread
            batch.error = error
        return batch

    def _finish(self, batch: Batch) -> None:
        try:
            tokens = batch.tokens()
        except Exception as error:  # noqa: BLE001 - as above
            self._count(batch, tokens=0, error=error)
            self._rescue(batch.pieces, error)
        else:
            self._count(batch, tokens=sum(item.shape[0] for item in tokens), error=None)
            for piece, piece_tokens in zip(batch.pieces, tokens, strict=True):
                piece.entry.deliver(piece_tokens, piece.request.segments)

    def _rescue(self, pieces: list[Piece], error: Exception) -> None:
        pieces = [piece for piece in pieces if not piece.entry.future.done()]
        if isinstance(error, OutOfDeviceMemory):
            self._lower_budget(pieces)
        if len(pieces) == 1 and pieces[0].request.segments == 1:
            self._fail(pieces[0].entry, error)
            return
        for half in halves(pieces):
            if self._broken is None:
                self._finish(self._start(half))

    def _fail(self, entry: Entry, error: Exception) -> None:
        log.warning("a segment of %s patches cannot be encoded", entry.request.segment_patches, exc_info=error)
        entry.fail(_as_embed_error(error))
        if not isinstance(error, OutOfDeviceMemory):
            self._check_encoder()

    def _check_encoder(self) -> None:
        """After a CUDA error every later call fails too, and only a new process gets the device back."""
        try:
            self.encoder.start([_probe(1)]).tokens()
        except Exception as error:
            log.exception("the encoder no longer works")
            self._broken = _as_embed_error(error)
            self._abandon(self._broken)

    def _abandon(self, error: EmbedError) -> None:
        with self._changed:
            abandoned, self._queue = self._queue, []
        for entry in abandoned:
            entry.fail(error)

    def _lower_budget(self, pieces: Sequence[Piece]) -> None:
        patches = sum(piece.request.segments * piece.request.segment_patches for piece in pieces)
        lower = max(1, min(self._patch_budget, patches // 2))
        if lower < self._patch_budget and len(pieces) > 1:
            log.warning("out of device memory at %s patches: lowering the patch budget to %s", patches, lower)
            self._patch_budget = lower

    def _count(self, batch: Batch, *, tokens: int, error: Exception | None) -> None:
        now, total = time.monotonic(), self._statistics
        patches = sum(piece.request.segments * piece.request.segment_patches for piece in batch.pieces)
        self._statistics = replace(
            total,
            forwards=total.forwards + 1,
            patches=total.patches + (patches if error is None else 0),
            room=total.room + (max(patches, self._patch_budget) if error is None else 0),
            tokens=total.tokens + tokens,
            # A batch that was started ahead begins only when the one before it ends.
            busy_seconds=total.busy_seconds + now - max(batch.started, self._last_finish),
            out_of_memory=total.out_of_memory + isinstance(error, OutOfDeviceMemory),
            failures=total.failures + (error is not None),
        )
        self._last_finish = now


def _probe(pictures: int) -> EncodeRequest:
    patches = memoryview(bytearray(pictures * _PROBE_EDGE**2 * _PROBE_WIDTH))
    return EncodeRequest(patches=patches, grid_thw=(pictures, _PROBE_EDGE, _PROBE_EDGE), dtype="float32")


def _as_embed_error(error: Exception) -> EmbedError:
    if isinstance(error, EmbedError):
        return error
    if isinstance(error, OutOfDeviceMemory):
        return TooLargeForDevice()
    return DeviceFailed(f"The encoder failed: {type(error).__name__}: {error}. Check the worker's log and its device.")
