"""The tower on a CUDA device: the same tokens, and nothing that makes the host wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from glm4v_core import Glm4vVisionConfig
from tests.reference import random_patches, random_tower, relative_error

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONFIG = Glm4vVisionConfig(depth=2)
OCR = Glm4vVisionConfig.from_dict({"model_type": "glm_ocr_vision", "depth": 2})
NEXT = Glm4vVisionConfig.from_dict({"model_type": "glm5_next_vision", "depth": 2, "out_hidden_size": 4096})
GRIDS = [(1, 24, 24), (5, 12, 16), (1, 8, 46), (1, 24, 24)]


@pytest.fixture
def no_synchronisation() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 2e-2)], ids=str
)
@pytest.mark.parametrize("config", [CONFIG, OCR, NEXT], ids=lambda config: config.model_type)
def test_tokens_are_those_of_the_cpu_in_float32(config: Glm4vVisionConfig, dtype: torch.dtype, bound: float) -> None:
    tower = random_tower(config)
    pixels = random_patches(GRIDS, config)
    with torch.no_grad():
        expected = tower(pixels, GRIDS)
        tokens = tower.to("cuda", dtype)(pixels.to("cuda", dtype), GRIDS)

    assert relative_error(tokens.float().cpu(), expected) <= bound


@pytest.mark.usefixtures("no_synchronisation")
def test_a_forward_never_waits_for_the_device() -> None:
    tower = random_tower(CONFIG).to("cuda", torch.bfloat16)
    pixels = random_patches(GRIDS, CONFIG).to(torch.bfloat16).pin_memory().to("cuda", non_blocking=True)

    with torch.no_grad():
        tokens = tower(pixels, GRIDS)

    assert tokens.shape == (len(pixels) // 4, CONFIG.out_hidden_size)
