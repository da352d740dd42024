"""The worker's encoder on a CUDA device: the CPU's tokens, batches overlapped, and no memory that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from glm4v_client.options import StoredDtype
from worker.encoder import TorchEncoder, load_encoder
from worker.encoding import EncodeRequest, Tokens
from worker.engine import Engine
from worker.errors import TooLargeForDevice

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def on_gpu() -> TorchEncoder:
    return load_encoder("random:tiny", device="cuda", dtype="float32")


@pytest.fixture
def engine(on_gpu: TorchEncoder) -> Iterator[Engine]:
    engine = Engine(on_gpu, patch_budget=4096)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def little_memory() -> Iterator[None]:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def random_request(grid_thw: tuple[int, int, int], *, frames: int = 1) -> EncodeRequest:
    t, h, w = grid_thw
    data = np.random.default_rng(h * w).integers(0, 256, t * h * w * 588 * frames, dtype=np.uint8)
    return EncodeRequest(patches=memoryview(bytearray(data)), grid_thw=grid_thw, dtype="float32")


def rows(tokens: Tokens) -> torch.Tensor:
    return torch.frombuffer(bytearray(tokens.data), dtype=torch.float32).view(tokens.shape)


def test_the_tokens_of_many_overlapping_batches_are_the_cpus(engine: Engine) -> None:
    grids = [((1, 8 + 2 * (number % 9), 24), 1) for number in range(40)] + [((6, 12, 16), 2)] * 8
    requests = [random_request(grid, frames=frames) for grid, frames in grids]
    assert engine.encoder.runs_ahead

    futures = [engine.submit(request) for request in requests]

    expected = load_encoder("random:tiny", device="cpu", dtype="float32").start(requests).tokens()
    for future, reference in zip(futures, expected, strict=True):
        torch.testing.assert_close(rows(future.result(60)), rows(reference), rtol=1e-3, atol=1e-3)


def test_a_batch_that_does_not_fit_is_halved(on_gpu: TorchEncoder, little_memory: None) -> None:
    engine = Engine(on_gpu, patch_budget=2**20)
    # Finds out by its own first batch already, and keeps to less from there on.
    engine.start()
    video = random_request((256, 64, 64), frames=2)
    assert engine.submit(video).result(120).shape == (256 * 64 * 64 // 4, on_gpu.dim)
    assert engine.statistics().out_of_memory > 0
    engine.stop()


def test_a_segment_that_does_not_fit_alone_is_too_large(on_gpu: TorchEncoder, little_memory: None) -> None:
    engine = Engine(on_gpu, patch_budget=4096)
    engine.start()
    huge = engine.submit(random_request((1, 2048, 1024)))
    small = engine.submit(random_request((1, 8, 8)))
    with pytest.raises(TooLargeForDevice):
        huge.result(120)
    assert small.result(60).shape == (16, on_gpu.dim)
    engine.stop()


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_light_tokens_come_back_with_their_scales(on_gpu: TorchEncoder, dtype: StoredDtype) -> None:
    exact = random_request((1, 16, 24))
    light = replace(exact, dtype=dtype)
    whole, stored = on_gpu.start([exact, light]).tokens()

    scales = torch.frombuffer(bytearray(stored.scales), dtype=torch.float32)
    numbers = torch.frombuffer(bytearray(stored.data), dtype=torch.int8 if dtype == "int8" else torch.float8_e4m3fn)
    restored = numbers.view(stored.shape).float() * scales[:, None]
    assert (restored - rows(whole)).norm() / rows(whole).norm() < 0.04
