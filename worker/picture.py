"""What the tokens of an image or a clip look like, beside the pixels they came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.floating]

# Principal axes of this many tokens stand for all: an exact solution of a 4096-wide matrix takes half a minute.
_TOKENS_FOR_AXES = 1024
# Colours span the middle of each component's range, so that a few outlying tokens do not gray the rest.
_SHOWN_PERCENTILES = (1.0, 99.0)
_GAP = 8
_IMAGE_EDGE = 640
_CLIP_ROW_HEIGHT = 180
# Longest picture that common viewers open.
_LONGEST_EDGE = 30_000


def draw_tokens(tokens: FloatArray, grid_thw: tuple[int, int, int], frames: Sequence[Image.Image]) -> Image.Image:
    """Draw the tokens' first three principal components as red, green and blue on the token grid, beside the input.

    Args:
        tokens: `(t * h/2 * w/2, dim)` of one item, in the order of the artefact.
        grid_thw: patches along time, height and width.
        frames: one input picture for each temporal patch; none for the tokens alone.

    Returns:
        One row for each temporal patch: input on the left, tokens on the right.

    Raises:
        ValueError: tokens, grid and frames do not agree.
    """
    maps = token_maps(tokens, grid_thw)
    if frames and len(frames) != len(maps):
        raise ValueError(f"{len(maps)} temporal patches but {len(frames)} frames")
    width, height = _cell_size(grid_thw)
    left = width + _GAP if frames else 0
    sheet = Image.new("RGB", (left + width, len(maps) * (height + _GAP) - _GAP), "white")
    for row, colours in enumerate(maps):
        top = row * (height + _GAP)
        if frames:
            sheet.paste(frames[row].convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (0, top))
        sheet.paste(Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST), (left, top))
    return sheet


def token_maps(tokens: FloatArray, grid_thw: tuple[int, int, int], merge_size: int = 2) -> npt.NDArray[np.uint8]:
    """Colours of the token grid, uint8 `(t, h / merge_size, w / merge_size, 3)`.

    Raises:
        ValueError: the tokens do not fill the grid.
    """
    t, h, w = grid_thw[0], grid_thw[1] // merge_size, grid_thw[2] // merge_size
    if len(tokens) != t * h * w:
        raise ValueError(f"grid {tuple(grid_thw)} has {t * h * w} tokens, but {len(tokens)} were given")
    return _as_colours(principal_components(tokens)).reshape(t, h, w, 3)


def principal_components(tokens: FloatArray, count: int = 3) -> FloatArray:
    """Coordinates along the `count` directions in which the tokens vary most, `(n, count)`; zero past their rank."""
    centred = tokens - tokens.mean(axis=0)
    sample = centred[:: -(-len(centred) // _TOKENS_FOR_AXES)]
    # Of n tokens in d dimensions with n < d, the n x n product has the same axes as the covariance.
    variances, coefficients = np.linalg.eigh(sample @ sample.T)
    strongest = np.argsort(variances)[::-1][:count]
    axes = sample.T @ coefficients[:, strongest]
    lengths = np.linalg.norm(axes, axis=0)
    axes = np.divide(axes, lengths, out=np.zeros_like(axes), where=lengths > lengths.max(initial=0.0) * 1e-6)
    coordinates = np.zeros((len(tokens), count), np.float32)
    coordinates[:, : axes.shape[1]] = centred @ axes
    return coordinates


def _as_colours(components: FloatArray) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(components, _SHOWN_PERCENTILES, axis=0)
    span = np.where(high > low, high - low, 1.0)
    shares = np.where(high > low, (components - low) / span, 0.5)
    return np.rint(np.clip(shares, 0.0, 1.0) * 255).astype(np.uint8)


def _cell_size(grid_thw: tuple[int, int, int]) -> tuple[int, int]:
    t, h, w = grid_thw
    height = min(_IMAGE_EDGE, _IMAGE_EDGE * h // w) if t == 1 else min(_CLIP_ROW_HEIGHT, _LONGEST_EDGE // t - _GAP)
    height = max(height, 1)
    return max(1, min(height * w // h, _LONGEST_EDGE // 2)), height
