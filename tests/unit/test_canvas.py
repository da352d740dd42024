"""What the comparison with transformers in tests/integration/test_processing_parity.py does not show."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glm4v_core.canvas import Canvas, fit_canvas
from glm4v_core.pixels import lay_on_canvas

TOKEN = 2 * 28**2


def padded(height: int, width: int, *, fewest: int = 16, most: int = 8000, frames: int = 2) -> Canvas:
    return fit_canvas("pad", frames, height, width, min_pixels=fewest * TOKEN, max_pixels=most * TOKEN)


def test_a_picture_that_fits_keeps_its_scale_and_gets_whole_cells() -> None:
    assert padded(230, 300) == Canvas(252, 308, 230, 300)


def test_a_stretched_picture_fills_its_canvas() -> None:
    canvas = fit_canvas("stretch", 2, 230, 300, min_pixels=16 * TOKEN, max_pixels=8000 * TOKEN)

    assert canvas == Canvas(224, 308, 224, 308)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 200), st.integers(200, 8000))
def test_a_padded_picture_keeps_its_proportions_within_its_budget(
    height: int, width: int, fewest: int, most: int
) -> None:
    canvas = padded(height, width, fewest=fewest, most=most)

    assert canvas.height % 28 == canvas.width % 28 == 0
    # Of a sliver one cell thick nothing can be taken away across.
    assert canvas.height * canvas.width <= most * 28**2 or min(canvas.height, canvas.width) == 28
    assert 0 < canvas.picture_height <= canvas.height
    assert 0 < canvas.picture_width <= canvas.width
    scales = (canvas.picture_height + 1) / height, (canvas.picture_width + 1) / width
    assert min(scales) * height >= canvas.picture_height
    assert min(scales) * width >= canvas.picture_width


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, 0)])
def test_an_empty_frame_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="is empty"):
        padded(height, width)


def test_a_budget_of_less_than_one_cell_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="783 pixels a frame is less than one cell of 28x28"):
        fit_canvas("pad", 2, 100, 100, min_pixels=1, max_pixels=TOKEN - 1)


def test_a_picture_lies_at_the_top_left_with_black_about_it() -> None:
    laid = lay_on_canvas(torch.full((3, 2, 3), 9, dtype=torch.uint8), Canvas(4, 4, 2, 3))

    assert laid[0].tolist() == [[9, 9, 9, 0], [9, 9, 9, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert laid.dtype == torch.uint8
