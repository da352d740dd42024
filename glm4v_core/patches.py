"""Frames cut into patches, and patches turned into the numbers that the encoder was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Patches:
    """One image or clip, cut up and still in its own pixel values.

    An image is stored with one frame per patch although the encoder wants `temporal_patch_size` of them: the copies
    are made by `normalize_patches`, on the device, so that 588 bytes travel where float32 pairs would take 4704.
    """

    #: (t*h*w, channels * frames * patch * patch), uint8 unless the source held other numbers. Rows go by temporal
    #: patch, then by cell of merge x merge patches; columns by channel, frame, line, column.
    data: Tensor
    #: Temporal patches, and patches down and across.
    grid_thw: tuple[int, int, int]


def patchify(frames: Tensor, *, patch_size: int = 14, merge_size: int = 2, frames_per_patch: int = 1) -> Patches:
    """Cut frames (T, C, H, W) of any dtype and memory layout into patches.

    Raises:
        ValueError: the frames do not divide into whole cells, or not into whole temporal patches.
    """
    count, channels, height, width = frames.shape
    cell = patch_size * merge_size
    if height % cell or width % cell:
        raise ValueError(f"{width}x{height} does not divide into cells of {cell}x{cell} pixels: resize it first")
    if count % frames_per_patch:
        raise ValueError(f"{count} frames do not divide into temporal patches of {frames_per_patch}: repeat the last")
    grid = (count // frames_per_patch, height // patch_size, width // patch_size)
    # (t, frame, C, cell row, row in cell, line, cell column, column in cell, pixel)
    cut = frames.reshape(
        grid[0], frames_per_patch, channels,
        height // cell, merge_size, patch_size,
        width // cell, merge_size, patch_size,
    )  # fmt: skip
    # -> (t, cell row, cell column, row in cell, column in cell, C, frame, line, pixel)
    order = (0, 3, 6, 4, 7, 2, 1, 5, 8)
    if cut.dtype == torch.uint8 and cut.device.type == "cpu":
        # numpy copies scattered bytes in two thirds of the time that torch takes.
        rows = torch.from_numpy(np.ascontiguousarray(cut.numpy().transpose(order)))
    else:
        rows = cut.permute(order)
    data = rows.reshape(-1, channels * frames_per_patch * patch_size**2)
    return Patches(data=data, grid_thw=grid)


def normalize_patches(
    data: Tensor,
    *,
    image_mean: Sequence[float] | None,
    image_std: Sequence[float] | None,
    rescale_factor: float | None,
    temporal_patch_size: int,
    channels: int = 3,
    patch_size: int = 14,
) -> Tensor:
    """Return `pixel_values` (t*h*w, channels * temporal_patch_size * patch * patch) on the device of `data`.

    float32, and bit for bit what Hugging Face's processors give. Without a mean the values are only rescaled;
    without a rescale factor too they keep their dtype. Patches of one frame have it repeated.

    Raises:
        ValueError: the patches hold another number of channels or frames.
    """
    frames, rest = divmod(data.shape[1], channels * patch_size**2)
    if rest or frames not in (1, temporal_patch_size):
        raise ValueError(
            f"patches of {data.shape[1]} values are not {channels} channels of 1 or {temporal_patch_size} frames"
            f" of {patch_size}x{patch_size} pixels"
        )
    pixels = data.reshape(len(data), channels, frames, patch_size**2)
    if image_mean is not None and image_std is not None:
        pixels = _standardize(pixels, image_mean, image_std, rescale_factor)
    elif rescale_factor is not None:
        pixels = pixels * rescale_factor
    return pixels.expand(-1, -1, temporal_patch_size, -1).reshape(len(data), -1)


def _standardize(pixels: Tensor, mean: Sequence[float], std: Sequence[float], rescale_factor: float | None) -> Tensor:
    # Rescaling is folded into mean and std, in float32 and in this order: any other order rounds differently.
    scale = 1.0 if rescale_factor is None else 1.0 / rescale_factor
    shift = (torch.tensor(mean, device=pixels.device) * scale).view(-1, 1, 1)
    spread = (torch.tensor(std, device=pixels.device) * scale).view(-1, 1, 1)
    # One new tensor, then in place: these are the largest arrays of the whole preprocessing.
    return pixels.to(torch.float32, copy=True).sub_(shift).div_(spread)
