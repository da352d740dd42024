"""The size an image or a clip is resized to: pure arithmetic, so that tokens can be counted without pixels."""

from __future__ import annotations

import math

#: The vision tower refuses slivers beyond this ratio of the long side to the short one.
MAX_ASPECT_RATIO = 200


def smart_resize(
    num_frames: int,
    height: int,
    width: int,
    *,
    temporal_factor: int = 2,
    factor: int = 28,
    min_pixels: int,
    max_pixels: int,
) -> tuple[int, int]:
    """Return the (height, width) in pixels, multiples of `factor`, that keep a clip within a pixel budget.

    `min_pixels` and `max_pixels` bound frames x height x width together. An image counts as `temporal_factor` frames,
    so its own budget is `max_pixels / temporal_factor`. The aspect ratio is kept as nearly as whole cells allow; a
    sliver one cell thick may exceed the budget, as it does in Hugging Face's processors.

    Raises:
        ValueError: too few frames, an empty frame, or a long side of more than 200 short ones.
    """
    if num_frames < temporal_factor:
        raise ValueError(f"{num_frames} frames are fewer than one temporal patch of {temporal_factor}: repeat the last")
    if height < 1 or width < 1:
        raise ValueError(f"a frame of {width}x{height} pixels is empty")
    height, width = _at_least_one_cell(height, width, factor)
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise ValueError(f"{width}x{height} is too thin: one side may be at most {MAX_ASPECT_RATIO} times the other")

    # Python rounds halves to even, and so must this: 42 is 1.5 cells and becomes 2, 70 is 2.5 and becomes 2.
    cells_high, cells_wide = round(height / factor), round(width / factor)
    counted_frames = round(num_frames / temporal_factor) * temporal_factor
    pixels = counted_frames * cells_high * cells_wide * factor**2
    if pixels > max_pixels:
        shrink = math.sqrt(num_frames * height * width / max_pixels)
        cells_high = max(1, math.floor(height / shrink / factor))
        cells_wide = max(1, math.floor(width / shrink / factor))
    elif pixels < min_pixels:
        grow = math.sqrt(min_pixels / (num_frames * height * width))
        cells_high = math.ceil(height * grow / factor)
        cells_wide = math.ceil(width * grow / factor)
    return cells_high * factor, cells_wide * factor


def _at_least_one_cell(height: int, width: int, factor: int) -> tuple[int, int]:
    if height >= factor and width >= factor:
        return height, width
    scale = max(factor / height, factor / width)
    return int(height * scale), int(width * scale)
