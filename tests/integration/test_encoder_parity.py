"""The tower against transformers' on the same random weights."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from glm4v_core import Glm4vVisionConfig, Glm4vVisionModel
from glm4v_core.packing import PackedBatch
from tests.reference import random_patches, random_tower, reference_tokens, reference_tower, relative_error

TINY = Glm4vVisionConfig(depth=3, hidden_size=96, num_heads=3, out_hidden_size=128, intermediate_size=160)
FULL_WIDTH = Glm4vVisionConfig(depth=2)
WIDE_MERGER = Glm4vVisionConfig(depth=1, hidden_size=96, num_heads=3, out_hidden_size=128, intermediate_size=96)
WITH_BIAS = Glm4vVisionConfig(
    depth=2, hidden_size=96, num_heads=3, out_hidden_size=128, intermediate_size=160, attention_bias=True
)


OCR = Glm4vVisionConfig.from_dict(
    {"model_type": "glm_ocr_vision", "depth": 3, "hidden_size": 128, "num_heads": 2, "out_hidden_size": 96}
)
NEXT = Glm4vVisionConfig.from_dict(
    {"model_type": "glm5_next_vision", "depth": 3, "hidden_size": 128, "num_heads": 2, "out_hidden_size": 96}
    # Low enough to cut values off on both sides; at the checkpoints' 10 random weights would never meet it.
    | {"projection_intermediate_size": 160, "swiglu_limit": 0.05}
)


@lru_cache(maxsize=1)
def shared_tower(config: Glm4vVisionConfig) -> Glm4vVisionModel:
    """For tests that leave it as it is: filling a full-width tower takes longer than running it."""
    return random_tower(config)


GRIDS = [
    pytest.param([(1, 24, 24)], id="one image"),
    pytest.param([(1, 8, 8), (1, 8, 8), (1, 8, 8)], id="equal images"),
    pytest.param([(1, 2, 30), (1, 12, 4), (1, 26, 28)], id="mixed images"),
    pytest.param([(5, 6, 8)], id="a video"),
    pytest.param([(4, 6, 8), (1, 6, 8), (3, 10, 4), (1, 30, 2)], id="videos between images"),
]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TINY, id="tiny"),
        pytest.param(WIDE_MERGER, id="other merger"),
        pytest.param(WITH_BIAS, id="attention bias"),
        pytest.param(FULL_WIDTH, id="full width"),
        pytest.param(OCR, id="GLM-OCR"),
        pytest.param(NEXT, id="GLM-5.3-Flash"),
    ],
)
@pytest.mark.parametrize("grids", GRIDS)
def test_tokens_are_the_references_in_float32(config: Glm4vVisionConfig, grids: list[tuple[int, int, int]]) -> None:
    tower = shared_tower(config)
    pixels = random_patches(grids, config)

    with torch.no_grad():
        tokens = tower(pixels, torch.tensor(grids))

    assert tokens.shape == (len(pixels) // 4, config.out_hidden_size)
    assert relative_error(tokens, reference_tokens(reference_tower(tower), pixels, grids)) <= 1e-5


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        pytest.param("glm4v_moe_vision", {"intermediate_size": 10944}, id="GLM-4.5V and GLM-4.6V"),
        pytest.param("glm_ocr_vision", {}, id="GLM-OCR"),
        pytest.param("glm5_next_vision", {"out_hidden_size": 4096}, id="GLM-5.3-Flash"),
    ],
)
def test_the_familys_towers_at_full_width_give_the_references_tokens(model_type: str, sizes: dict[str, int]) -> None:
    config = Glm4vVisionConfig.from_dict({"model_type": model_type, "depth": 1, **sizes})
    grids = [(1, 4, 6), (2, 2, 4)]
    tower = random_tower(config)
    pixels = random_patches(grids, config)

    with torch.no_grad():
        tokens = tower(pixels, grids)

    reference = reference_tower(tower, model_type=model_type)
    assert relative_error(tokens, reference_tokens(reference, pixels, grids)) <= 1e-5


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TINY, id="tiny"),
        pytest.param(FULL_WIDTH, id="full width"),
        pytest.param(OCR, id="GLM-OCR"),
        pytest.param(NEXT, id="GLM-5.3-Flash"),
    ],
)
@pytest.mark.parametrize("grids", [GRIDS[2], GRIDS[4]])
def test_tokens_are_the_references_in_bfloat16(config: Glm4vVisionConfig, grids: list[tuple[int, int, int]]) -> None:
    tower = random_tower(config, torch.bfloat16)
    pixels = random_patches(grids, config).to(torch.bfloat16)

    with torch.no_grad():
        tokens = tower(pixels, grids)

    assert tokens.dtype == torch.bfloat16
    assert relative_error(tokens, reference_tokens(reference_tower(tower), pixels, grids)) <= 2e-2


def test_casting_a_tower_does_not_round_the_rotary_frequencies() -> None:
    """A frequency rounded to bfloat16 is off by up to 0.4 %: a third of a radian, 95 patches down."""
    tower = random_tower(TINY).to(torch.bfloat16)
    batch = PackedBatch.of([(1, 96, 2)], merge_size=2)

    context = tower._segment_context(batch, torch.zeros(1, dtype=torch.bfloat16))

    frequencies = 10000.0 ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    rows = batch.positions()[:, 0].double()[:, None] * frequencies
    assert context.cos.dtype == torch.float32
    torch.testing.assert_close(context.cos[:, 0, :8].double(), rows.cos(), atol=2e-5, rtol=0)
    torch.testing.assert_close(context.sin[:, 0, :8].double(), rows.sin(), atol=2e-5, rtol=0)


@pytest.mark.slow
def test_the_full_model_gives_the_references_tokens() -> None:
    config = Glm4vVisionConfig()
    grids = [(1, 12, 10), (2, 4, 6)]
    tower = random_tower(config)
    assert sum(parameter.numel() for parameter in tower.parameters()) == 892_498_432
    pixels = random_patches(grids, config)

    with torch.no_grad():
        tokens = tower(pixels, grids)

    assert relative_error(tokens, reference_tokens(reference_tower(tower), pixels, grids)) <= 1e-5


@pytest.mark.slow
def test_the_full_model_in_bfloat16_stays_close_to_float32_arithmetic() -> None:
    """Closer than the reference itself, whose running sum is rounded to bfloat16 after every block."""
    config = Glm4vVisionConfig()
    grids = [(1, 12, 10)]
    tower = random_tower(config, torch.bfloat16)
    pixels = random_patches(grids, config).to(torch.bfloat16)

    with torch.no_grad():
        tokens = tower(pixels, grids)
        theirs = reference_tokens(reference_tower(tower), pixels, grids)
        exact = tower.float()(pixels.float(), grids)

    assert relative_error(tokens, exact) <= 2e-2
    assert relative_error(tokens, exact) < relative_error(theirs, exact)


def test_an_items_tokens_do_not_depend_on_its_neighbours() -> None:
    tower = shared_tower(FULL_WIDTH)
    grids = [(1, 8, 10), (3, 6, 4), (1, 20, 2)]
    pixels = random_patches(grids, FULL_WIDTH)

    with torch.no_grad():
        together = tower(pixels, grids).split([20, 18, 10])
        alone = [tower(part, [grid]) for part, grid in zip(pixels.split([80, 72, 40]), grids, strict=True)]

    for packed, single in zip(together, alone, strict=True):
        assert relative_error(packed, single) <= 1e-5


@pytest.mark.parametrize("config", [pytest.param(TINY, id="tiny"), pytest.param(NEXT, id="GLM-5.3-Flash")])
def test_compiled_blocks_give_the_same_tokens(config: Glm4vVisionConfig) -> None:
    grids = [(2, 6, 8), (1, 10, 4)]
    tower = random_tower(config)
    pixels = random_patches(grids, config)
    with torch.no_grad():
        eager = tower(pixels, grids)
        tower.compile_blocks()
        compiled = tower(pixels, grids)

    assert relative_error(compiled, eager) <= 1e-5


def test_gradients_reach_every_weight() -> None:
    tower = random_tower(TINY).train()
    grids = [(2, 4, 4), (1, 6, 4)]

    tower(random_patches(grids, TINY), grids).square().mean().backward()

    assert [name for name, weight in tower.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_training_drops_attention_where_the_configuration_says_so() -> None:
    config = Glm4vVisionConfig(
        depth=1, hidden_size=96, num_heads=3, out_hidden_size=128, intermediate_size=160, attention_dropout=0.5
    )
    tower = random_tower(config)
    grids = [(1, 8, 8)]
    pixels = random_patches(grids, config)

    with torch.no_grad():
        assert torch.equal(tower(pixels, grids), tower(pixels, grids))
        tower.train()
        assert not torch.equal(tower(pixels, grids), tower(pixels, grids))


@pytest.mark.parametrize("shape", [(63, 1176), (64, 588)])
def test_patches_that_do_not_fit_the_grid_are_refused_with_both_numbers(shape: tuple[int, int]) -> None:
    tower = random_tower(TINY)

    with pytest.raises(ValueError, match=rf"64 patches of 1176 values.*\({shape[0]}, {shape[1]}\)"):
        tower(torch.zeros(shape), [(1, 8, 8)])
