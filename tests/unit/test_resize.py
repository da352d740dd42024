from __future__ import annotations

import pytest

from glm4v_core.resize import smart_resize

IMAGE_BUDGET = {"min_pixels": 112 * 112, "max_pixels": 9_633_792}


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [
        (6000, 4000, (128, 192)),
        (4000, 3000, (134, 180)),
        (3000, 3000, (156, 156)),
        (1700, 2200, (158, 122)),
        (100, 100, (8, 8)),
        (1920, 1080, (78, 138)),
    ],
)
def test_sizes_measured_on_the_reference_come_out(width: int, height: int, grid: tuple[int, int]) -> None:
    resized = smart_resize(2, height, width, **IMAGE_BUDGET)
    assert (resized[0] // 14, resized[1] // 14) == grid


def test_a_side_under_one_cell_is_grown_and_not_refused() -> None:
    assert smart_resize(2, 3, 5, min_pixels=1, max_pixels=9_633_792) == (28, 56)


def test_halves_of_a_cell_are_rounded_to_even() -> None:
    assert smart_resize(2, 42, 70, min_pixels=1, max_pixels=9_633_792) == (56, 56)


def test_the_budget_counts_every_frame_of_a_clip() -> None:
    one = smart_resize(2, 1080, 1920, min_pixels=112 * 112, max_pixels=47_040_000)
    many = smart_resize(600, 1080, 1920, min_pixels=112 * 112, max_pixels=47_040_000)
    assert one == (1092, 1932)
    assert 600 * many[0] * many[1] <= 47_040_000 < 600 * one[0] * one[1]


@pytest.mark.parametrize(
    ("frames", "height", "width", "reason"),
    [
        (1, 100, 100, "fewer than one temporal patch of 2"),
        (2, 28, 28 * 201, "too thin"),
        (2, 0, 100, "empty"),
    ],
)
def test_what_cannot_be_resized_is_refused_with_a_reason(frames: int, height: int, width: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        smart_resize(frames, height, width, **IMAGE_BUDGET)
