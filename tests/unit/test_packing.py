from __future__ import annotations

import pytest
import torch

from glm4v_core.packing import PackedBatch, patch_positions


def test_four_neighbouring_patches_are_one_cell_of_the_merge() -> None:
    positions = patch_positions(4, 6, merge_size=2)

    assert positions[:4].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert positions[4:8].tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert sorted(map(tuple, positions.tolist())) == [(row, column) for row in range(4) for column in range(6)]


def test_a_video_is_one_segment_for_each_temporal_patch() -> None:
    batch = PackedBatch.of([(3, 4, 4), (1, 2, 8), (1, 6, 2)], merge_size=2)

    assert batch.segment_lengths == [16, 16, 16, 16, 12]
    assert batch.tokens_per_grid == [12, 4, 3]
    assert [tuple(group) for group in batch.segment_groups()] == [(0, 4, 16), (64, 1, 12)]
    assert batch.segment_bounds(torch.device("cpu")).tolist() == [0, 16, 32, 48, 64, 76]


def test_positions_start_anew_in_every_segment() -> None:
    positions = PackedBatch.of(torch.tensor([[2, 2, 4]]), merge_size=2).positions()

    assert torch.equal(positions[:8], positions[8:])


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        pytest.param([(1, 3, 4)], "multiples of 2", id="odd height"),
        pytest.param([(0, 4, 4)], "positive", id="no frames"),
        pytest.param([(4, 4)], "three", id="two numbers"),
        pytest.param([], "empty", id="no grids"),
    ],
)
def test_a_grid_that_cannot_be_merged_is_refused(grid: list[tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PackedBatch.of(grid, merge_size=2)
