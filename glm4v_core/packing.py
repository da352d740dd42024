"""Where the patches of many grids lie in one packed batch, worked out on the host before the forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Patches of one item: temporal, vertical, horizontal."""

    t: int
    h: int
    w: int


class SegmentGroup(NamedTuple):
    """Neighbouring segments of one length, which one attention call can take as a batch."""

    start: int
    segments: int
    length: int


@dataclass(frozen=True)
class PackedBatch:
    """The geometry of patches laid end to end.

    A segment is one temporal patch (h x w patches). Attention never crosses it, so a video of t temporal patches is t
    independent segments of its own.
    """

    grids: tuple[Grid, ...]
    merge_size: int

    @classmethod
    def of(cls, grid_thw: Tensor | Sequence[Sequence[int]], merge_size: int) -> PackedBatch:
        """Read grids `(n, 3)`; a tensor on a device is copied to the host once, here.

        Raises:
            ValueError: a grid is not three positive numbers, or its edges are no multiple of `merge_size`.
        """
        rows = grid_thw.tolist() if isinstance(grid_thw, Tensor) else grid_thw
        batch = cls(tuple(_grid(row, merge_size) for row in rows), merge_size)
        if not batch.grids:
            raise ValueError("grid_thw is empty: pass one (t, h, w) row for each image or video")
        return batch

    @cached_property
    def num_patches(self) -> int:
        return sum(t * h * w for t, h, w in self.grids)

    @cached_property
    def tokens_per_grid(self) -> list[int]:
        return [t * h * w // self.merge_size**2 for t, h, w in self.grids]

    @cached_property
    def segment_lengths(self) -> list[int]:
        return [h * w for t, h, w in self.grids for _ in range(t)]

    @cached_property
    def max_segment_length(self) -> int:
        return max(self.segment_lengths)

    def segment_bounds(self, device: torch.device) -> Tensor:
        """Offsets of the segments, `(segments + 1,)` int32, the first 0 and the last `num_patches`."""
        lengths = torch.tensor([0, *self.segment_lengths], dtype=torch.int32)
        return lengths.cumsum(0, dtype=torch.int32).to(device, non_blocking=True)

    def segment_groups(self) -> Iterator[SegmentGroup]:
        """Runs of equal length, in the order of the batch."""
        start = 0
        for length, run in groupby(self.segment_lengths):
            segments = sum(1 for _ in run)
            yield SegmentGroup(start, segments, length)
            start += segments * length

    def positions(self) -> Tensor:
        """Row and column of every patch in its segment, `(num_patches, 2)` int64 on the host."""
        return torch.cat([patch_positions(h, w, self.merge_size).repeat(t, 1) for t, h, w in self.grids])


@lru_cache(maxsize=256)
def patch_positions(height: int, width: int, merge_size: int) -> Tensor:
    """Rows and columns of a grid's patches in merge order, `(height * width, 2)` int64.

    Merge order walks the grid cell by cell, a cell being the merge_size x merge_size patches that become one token.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = (height // merge_size, merge_size, width // merge_size, merge_size)
    return torch.stack([axis.reshape(cells).transpose(1, 2).flatten() for axis in (rows, columns)], dim=-1)


def _grid(row: Sequence[int], merge_size: int) -> Grid:
    if len(row) != 3 or min(row) < 1:
        raise ValueError(f"a grid is three positive numbers (t, h, w), got {list(row)}")
    grid = Grid(*(int(value) for value in row))
    if grid.h % merge_size or grid.w % merge_size:
        raise ValueError(f"grid {tuple(grid)} cannot be merged: h and w must be multiples of {merge_size}")
    return grid
