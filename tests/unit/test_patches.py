from __future__ import annotations

import pytest
import torch

from glm4v_core.patches import normalize_patches, patchify

NORMALIZATION = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 1 / 255}


def test_four_patches_in_a_row_are_one_square() -> None:
    # Every pixel holds the number of its patch, counted as in a raster of 4 x 4 patches.
    raster = torch.arange(16).reshape(4, 4).repeat_interleave(14, 0).repeat_interleave(14, 1)
    rows = patchify(raster.expand(1, 3, 56, 56).to(torch.uint8)).data
    assert rows[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


def test_a_row_goes_by_channel_frame_and_line() -> None:
    frames = torch.randint(0, 256, (4, 3, 28, 28), dtype=torch.uint8)
    patches = patchify(frames, frames_per_patch=2)
    assert patches.grid_thw == (2, 2, 2)
    row = patches.data[4].reshape(3, 2, 14, 14)
    assert torch.equal(row[1, 1], frames[3, 1, :14, :14])


def test_an_image_travels_as_588_bytes_a_patch() -> None:
    data = patchify(torch.zeros(1, 3, 28, 56, dtype=torch.uint8)).data
    assert data.shape == (8, 588)
    assert data.dtype == torch.uint8


def test_memory_layout_does_not_matter() -> None:
    frames = torch.randint(0, 256, (2, 56, 84, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    assert torch.equal(patchify(frames).data, patchify(frames.contiguous()).data)


def test_an_image_is_repeated_over_its_temporal_patch() -> None:
    data = patchify(torch.randint(0, 256, (1, 3, 28, 28), dtype=torch.uint8)).data
    values = normalize_patches(data, **NORMALIZATION, temporal_patch_size=2).reshape(4, 3, 2, 196)
    assert values.dtype == torch.float32
    assert torch.equal(values[:, :, 0], values[:, :, 1])


def test_each_channel_has_its_own_mean_and_spread() -> None:
    data = patchify(torch.full((1, 3, 28, 28), 255, dtype=torch.uint8)).data
    values = normalize_patches(data, **NORMALIZATION, temporal_patch_size=2).reshape(4, 3, -1)
    expected = [(1 - mean) / std for mean, std in zip([0.5, 0.4, 0.3], [0.2, 0.3, 0.4], strict=True)]
    assert values[0, :, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_patches_themselves_are_left_as_they_were() -> None:
    data = torch.full((4, 588), 7.0)
    normalize_patches(data, **NORMALIZATION, temporal_patch_size=2)
    assert bool((data == 7.0).all())


@pytest.mark.parametrize(("height", "width"), [(28, 30), (14, 28)])
def test_frames_that_are_no_whole_cells_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="does not divide into cells"):
        patchify(torch.zeros(1, 3, height, width))


def test_half_a_temporal_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="repeat the last"):
        patchify(torch.zeros(3, 3, 28, 28), frames_per_patch=2)


def test_patches_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="not 3 channels"):
        normalize_patches(torch.zeros(4, 587), **NORMALIZATION, temporal_patch_size=2)
