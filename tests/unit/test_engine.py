from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from tests.fake_encoder import DIM, FakeEncoder, expected_tokens
from worker.encoding import EncodeRequest, OutOfDeviceMemory, Tokens
from worker.engine import Engine
from worker.errors import DeviceFailed, TooLargeForDevice, WorkerStopping

StartEngine = Callable[..., Engine]


@pytest.fixture
def start_engine() -> Iterator[StartEngine]:
    engines: list[Engine] = []

    def start(encoder: FakeEncoder, patch_budget: int = 256) -> Engine:
        engine = Engine(encoder, patch_budget=patch_budget)
        engine.start()
        encoder.batches.clear()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.stop()


def request(segments: int = 1, *, value: int = 0, alone: bool = False, width: int = 12) -> EncodeRequest:
    """`segments` of 8 x 8 patches, each segment of its own value."""
    rows = np.repeat(np.arange(value, value + segments, dtype=np.uint8), 64 * width)
    return EncodeRequest(patches=memoryview(bytearray(rows)), grid_thw=(segments, 8, 8), dtype="float32", alone=alone)


def rows(tokens: Tokens) -> np.ndarray:
    return np.frombuffer(tokens.data, dtype=np.float32).reshape(tokens.shape)


class Door:
    """Holds the engine's thread in a forward until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.is_closed = False

    def __call__(self, _: Sequence[EncodeRequest]) -> None:
        if self.is_closed:
            self.reached.set()
            assert self.opened.wait(10)

    def close(self) -> None:
        self.is_closed = True

    def open(self) -> None:
        self.is_closed = False
        self.opened.set()


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_every_request_gets_its_own_tokens(start_engine: StartEngine, runs_ahead: bool) -> None:
    engine = start_engine(FakeEncoder(runs_ahead=runs_ahead))
    requests = [request(1 + index % 5, value=index) for index in range(40)]

    futures = [engine.submit(item) for item in requests]

    for item, future in zip(requests, futures, strict=True):
        tokens = future.result(10)
        assert tokens.shape == (item.segments * 16, DIM)
        np.testing.assert_array_equal(rows(tokens), expected_tokens(item))


def test_what_waits_while_a_forward_runs_goes_into_the_next_one_together(start_engine: StartEngine) -> None:
    door = Door()
    encoder = FakeEncoder(before=door)
    engine = start_engine(encoder)
    door.close()
    first = engine.submit(request())
    assert door.reached.wait(10)

    others = [engine.submit(request(value=value)) for value in (1, 2, 3)]
    door.open()

    for future in [first, *others]:
        future.result(10)
    assert [len(batch) for batch in encoder.batches] == [1, 3]


def test_a_video_larger_than_the_budget_runs_in_pieces(start_engine: StartEngine) -> None:
    encoder = FakeEncoder()
    video = request(10)

    tokens = start_engine(encoder, patch_budget=192).submit(video).result(10)

    np.testing.assert_array_equal(rows(tokens), expected_tokens(video))
    assert [batch[0].segments for batch in encoder.batches] == [3, 3, 3, 1]


def test_a_suspect_shares_no_forward(start_engine: StartEngine) -> None:
    door = Door()
    encoder = FakeEncoder(before=door)
    engine = start_engine(encoder)
    door.close()
    futures = [engine.submit(request())]
    assert door.reached.wait(10)
    futures += [engine.submit(request(value=1)), engine.submit(request(value=2, alone=True)), engine.submit(request())]
    door.open()

    for future in futures:
        future.result(10)

    assert [[item.alone for item in batch] for batch in encoder.batches] == [[False], [False, False], [True]]


def out_of_memory_above(patches: int) -> Callable[[Sequence[EncodeRequest]], None]:
    def check(batch: Sequence[EncodeRequest]) -> None:
        if sum(item.segments * item.segment_patches for item in batch) > patches:
            raise OutOfDeviceMemory

    return check


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_smaller(start_engine: StartEngine) -> None:
    encoder = FakeEncoder(before=out_of_memory_above(300))
    engine = start_engine(encoder, patch_budget=1024)
    video = request(16)

    np.testing.assert_array_equal(rows(engine.submit(video).result(10)), expected_tokens(video))
    assert engine.statistics().out_of_memory > 0
    seen = len(encoder.batches)
    engine.submit(video).result(10)
    assert [batch[0].segments for batch in encoder.batches[seen:]] == [4, 4, 4, 4]


def test_a_segment_that_does_not_fit_alone_is_too_large_and_others_go_on(start_engine: StartEngine) -> None:
    def check(batch: Sequence[EncodeRequest]) -> None:
        if any(item.segment_patches > 64 for item in batch):
            raise OutOfDeviceMemory

    engine = start_engine(FakeEncoder(before=check))
    large = EncodeRequest(patches=memoryview(bytearray(12 * 256)), grid_thw=(1, 16, 16), dtype="float32")

    futures = [engine.submit(request()), engine.submit(large), engine.submit(request())]

    with pytest.raises(TooLargeForDevice):
        futures[1].result(10)
    assert futures[0].result(10).shape == futures[2].result(10).shape == (16, DIM)
    assert engine.broken is None


def test_a_crash_fails_the_request_that_causes_it_and_nothing_else(start_engine: StartEngine) -> None:
    door = Door()

    def check(batch: Sequence[EncodeRequest]) -> None:
        door(batch)
        if any(bytes(item.patches[:1]) == b"\x63" for item in batch):
            raise RuntimeError("poison")

    engine = start_engine(FakeEncoder(before=check), patch_budget=2048)
    door.close()
    engine.submit(request())
    assert door.reached.wait(10)
    futures = [engine.submit(request(value=value)) for value in (1, 2, 99, 3, 4)]
    door.open()

    with pytest.raises(DeviceFailed, match="poison"):
        futures[2].result(10)
    for future in (*futures[:2], *futures[3:]):
        assert future.result(10).shape == (16, DIM)
    assert engine.broken is None


def test_an_encoder_that_never_works_again_is_broken_and_says_so_at_once(start_engine: StartEngine) -> None:
    dead = threading.Event()

    def check(batch: Sequence[EncodeRequest]) -> None:
        if dead.is_set():
            raise RuntimeError("the device is gone")

    engine = start_engine(FakeEncoder(before=check))
    dead.set()

    with pytest.raises(DeviceFailed):
        engine.submit(request(5)).result(10)
    with pytest.raises(DeviceFailed, match="the device is gone"):
        engine.submit(request()).result(10)
    assert engine.broken is not None


def test_a_cancelled_request_is_not_encoded(start_engine: StartEngine) -> None:
    door = Door()
    encoder = FakeEncoder(before=door)
    engine = start_engine(encoder)
    door.close()
    first = engine.submit(request())
    assert door.reached.wait(10)

    unwanted = engine.submit(request(value=7))
    assert unwanted.cancel()
    door.open()

    first.result(10)
    engine.submit(request(value=9)).result(10)
    assert [bytes(item.patches[:1]) for batch in encoder.batches for item in batch] == [b"\x00", b"\x09"]


def test_stopping_gives_back_what_no_forward_has_begun() -> None:
    door = Door()
    engine = Engine(FakeEncoder(before=door), patch_budget=64)
    engine.start()
    door.close()
    begun = engine.submit(request())
    assert door.reached.wait(10)
    waiting = engine.submit(request())

    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    door.open()
    stopper.join(10)

    assert begun.result(10).shape == (16, DIM)
    with pytest.raises(WorkerStopping):
        waiting.result(10)
    with pytest.raises(WorkerStopping):
        engine.submit(request()).result(10)


def test_the_statistics_add_up(start_engine: StartEngine) -> None:
    engine = start_engine(FakeEncoder(), patch_budget=128)
    before = engine.statistics()

    engine.submit(request(5)).result(10)

    after = engine.statistics()
    assert after.patches - before.patches == 5 * 64
    assert after.tokens - before.tokens == 5 * 16
    assert after.room - before.room == 3 * 128
    assert after.busy_seconds > before.busy_seconds


def test_a_request_that_waited_during_a_forward_waits_for_no_further_company(start_engine: StartEngine) -> None:
    """Else the device would idle between batches under load."""
    door = Door()
    engine = start_engine(FakeEncoder(before=door), patch_budget=10_000)
    door.close()
    engine.submit(request())
    assert door.reached.wait(10)
    engine._wait_seconds = 3600
    second = engine.submit(request())
    engine._queue[0].arrived -= 3600

    door.open()

    second.result(10)


def test_a_batch_that_is_not_full_waits_for_company() -> None:
    encoder = FakeEncoder()
    engine = Engine(encoder, patch_budget=192, wait_seconds=30)
    thread = threading.Thread(target=engine.start)
    thread.start()
    # The engine's own first request waits as well, and these three fill its batch and one more.
    futures = [engine.submit(request()) for _ in range(5)]
    for future in futures:
        future.result(10)
    thread.join(10)
    assert [len(batch) for batch in encoder.batches] == [3, 3]
    engine.stop()
