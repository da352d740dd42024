from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from worker.picture import draw_tokens, principal_components, token_maps


def test_components_are_the_directions_of_most_variance() -> None:
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(64, 3)))[0].T
    coordinates = generator.normal(size=(500, 3)) * [9.0, 4.0, 1.0]
    tokens = (coordinates @ axes + generator.normal(scale=0.01, size=(500, 64)) + 5).astype(np.float32)

    found = principal_components(tokens)

    for component in range(3):
        assert abs(np.corrcoef(found[:, component], coordinates[:, component])[0, 1]) > 0.99


def test_equal_tokens_are_one_gray() -> None:
    maps = token_maps(np.ones((6, 16), np.float32), (1, 4, 6))

    assert maps.shape == (1, 2, 3, 3)
    assert len(np.unique(maps)) == 1


def test_tokens_lie_where_their_patches_were() -> None:
    tokens = np.zeros((12, 8), np.float32)
    tokens[7, 0] = 1.0  # second row of 4, last column

    maps = token_maps(tokens, (1, 6, 8))

    assert (maps[0] != maps[0, 0, 0]).any(axis=-1).nonzero() == (np.array([1]), np.array([3]))


@pytest.mark.parametrize(("grid", "rows"), [((1, 4, 8), 1), ((3, 4, 8), 3), ((300, 2, 2), 300)])
def test_a_clip_has_one_row_for_each_temporal_patch(grid: tuple[int, int, int], rows: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(grid[0] * grid[1] * grid[2] // 4, 16)).astype(np.float32)

    picture = draw_tokens(tokens, grid, [Image.new("RGB", (80, 40), "red")] * rows)

    assert picture.getpixel((1, 1)) == (255, 0, 0)
    assert picture.height < 65_000


def test_a_grid_that_the_tokens_do_not_fill_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="8 tokens, but 7"):
        draw_tokens(np.zeros((7, 4), np.float32), (1, 4, 8), [Image.new("RGB", (4, 4))])


def test_tokens_whose_input_cannot_be_shown_are_drawn_alone() -> None:
    tokens = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    beside = draw_tokens(tokens, (3, 4, 8), [Image.new("RGB", (80, 40), "red")] * 3)

    alone = draw_tokens(tokens, (3, 4, 8), [])

    assert alone.height == beside.height
    assert np.array_equal(np.asarray(alone), np.asarray(beside)[:, -alone.width :])
