"""The area of whole cells that a frame fills or is laid on: pure arithmetic, to count tokens without pixels."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Literal, NamedTuple, get_args

from glm4v_core.resize import smart_resize

#: "stretch" brings a frame's sides to whole cells, each by itself. "pad", GLM-5.3-Flash's way, keeps its proportions,
#: enlarges it only up to the fewest pixels, and fills the cells up with black at the right and at the bottom.
Fit = Literal["stretch", "pad"]
FITS: tuple[str, ...] = get_args(Fit)


class Canvas(NamedTuple):
    """Pixels of a frame that is cut into patches, and of the picture at its top left."""

    height: int
    width: int
    picture_height: int
    picture_width: int

    @property
    def picture_size(self) -> tuple[int, int]:
        return self.picture_height, self.picture_width


def fit_canvas(
    fit: Fit,
    num_frames: int,
    height: int,
    width: int,
    *,
    temporal_factor: int = 2,
    factor: int = 28,
    min_pixels: int,
    max_pixels: int,
) -> Canvas:
    """Return the canvas of each frame, its sides multiples of `factor`.

    `min_pixels` and `max_pixels` bound frames x height x width together; an image counts as `temporal_factor` frames.

    Raises:
        ValueError: an empty frame, or a budget too small for one cell; for "stretch" also what `smart_resize` refuses.
    """
    if fit == "stretch":
        sides = smart_resize(
            num_frames,
            height,
            width,
            temporal_factor=temporal_factor,
            factor=factor,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )
        return Canvas(*sides, *sides)
    if height < 1 or width < 1:
        raise ValueError(f"a frame of {width}x{height} pixels is empty")
    counted = max(1, round(num_frames / temporal_factor)) * temporal_factor
    sides = _whole_cells(height, width, factor)
    if counted * math.prod(sides) < min_pixels:
        grow = math.sqrt(min_pixels / (num_frames * height * width))
        sides = _whole_cells(math.ceil(height * grow), math.ceil(width * grow), factor)
    if counted * math.prod(sides) > max_pixels:
        sides = _largest(height, width, factor, max_pixels // counted)
    scale = min(sides[0] / height, sides[1] / width)
    if num_frames * height * width >= min_pixels:
        scale = min(1.0, scale)
    picture = (max(1, min(edge, math.floor(side * scale))) for edge, side in zip(sides, (height, width), strict=True))
    return Canvas(*sides, *picture)


def _largest(height: int, width: int, factor: int, most_pixels: int) -> tuple[int, int]:
    """The whole cells of the largest picture of these proportions, no larger than itself, within a budget."""
    if most_pixels < factor**2:
        raise ValueError(f"a budget of {most_pixels} pixels a frame is less than one cell of {factor}x{factor}")

    def cells(picture_height: int) -> tuple[int, int]:
        return _whole_cells(picture_height, max(1, width * picture_height // height), factor)

    fitting = bisect_right(range(1, height + 1), most_pixels, key=lambda side: math.prod(cells(side)))
    return cells(fitting) if fitting else (factor, factor)


def _whole_cells(height: int, width: int, factor: int) -> tuple[int, int]:
    return -(-height // factor) * factor, -(-width // factor) * factor
