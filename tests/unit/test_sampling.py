from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm4v_core.sampling import SAMPLERS, Sampler, VideoMetadata, patch_timestamps, sample_frames, thin


def clip(frames: int, fps: float, duration: float | None = None) -> VideoMetadata:
    return VideoMetadata(total_num_frames=frames, fps=fps, duration=duration)


@pytest.mark.parametrize(
    ("metadata", "count", "first"),
    [
        (clip(300, 30, 10.0), 20, [0, 15, 30]),
        (clip(300, 30), 22, [0, 15, 30]),
        (clip(250, 25, 10), 20, [0, 13, 25, 38]),
        (clip(9600, 24, 400), 600, [0, 17, 33]),
        (clip(16, 30, 0.533), 2, [0, 0]),
        (clip(7, 2, 3.5), 8, [0, 1, 2]),
    ],
)
def test_glm4v_samples_as_measured_on_the_reference(metadata: VideoMetadata, count: int, first: list[int]) -> None:
    indices = sample_frames(metadata, sampler="glm4v")
    assert len(indices) == count
    assert indices[: len(first)] == first


@pytest.mark.parametrize(
    ("metadata", "count"), [(clip(300, 30, 10), 60), (clip(9600, 24, 400), 400), (clip(32, 8, 4.0), 24)]
)
def test_glm46v_samples_as_measured_on_the_reference(metadata: VideoMetadata, count: int) -> None:
    assert len(sample_frames(metadata, sampler="glm46v")) == count


@pytest.mark.parametrize("metadata", [clip(1, 30, 1 / 30), clip(4, 30, 4 / 30), clip(2, 60, 0.03)])
def test_glm46v_takes_a_frame_of_a_clip_under_a_sixth_of_a_second(metadata: VideoMetadata) -> None:
    assert sample_frames(metadata, sampler="glm46v") == [0, 0]


@given(
    st.sampled_from(SAMPLERS),
    st.integers(1, 5000),
    st.floats(0.5, 240),
    st.none() | st.floats(0, 5000),
)
def test_every_sample_is_in_the_clip_in_order_and_even_in_number(
    sampler: Sampler, frames: int, fps: float, duration: float | None
) -> None:
    indices = sample_frames(clip(frames, fps, duration), sampler=sampler)
    assert indices
    assert len(indices) % 2 == 0
    assert indices == sorted(indices)
    assert 0 <= indices[0] <= indices[-1] < frames


def test_an_unknown_frame_rate_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(ValueError, match="pass video_metadata"):
        sample_frames(VideoMetadata(total_num_frames=10), sampler="glm4v")


@pytest.mark.parametrize(
    "values",
    [
        {"total_num_frames": 0},
        {"total_num_frames": 1, "fps": 0},
        {"total_num_frames": 1, "fps": float("nan")},
        {"total_num_frames": 1, "duration": -1},
    ],
)
def test_metadata_that_no_clip_can_have_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        VideoMetadata.of(values)


def test_metadata_without_a_frame_count_is_refused() -> None:
    with pytest.raises(ValueError, match="total_num_frames"):
        VideoMetadata.of({"fps": 30})


@given(st.integers(1, 300), st.integers(1, 300))
def test_thinning_keeps_at_most_so_many_and_spreads_them(count: int, most: int) -> None:
    kept = thin(range(count), most)
    assert len(kept) == len(set(kept)) == min(count, most)
    assert kept[0] == 0
    steps = {later - earlier for earlier, later in pairwise(kept)}
    assert not steps or max(steps) - min(steps) <= 2
    if len(kept) > 1:
        assert kept[-1] == count - 1


def test_a_temporal_patch_begins_with_its_first_frame() -> None:
    assert patch_timestamps([0.0, 0.5, 1.0, 1.5], grid_t=2, temporal_patch_size=2) == [0.0, 1.0]


def test_timestamps_are_cut_and_filled_to_the_temporal_patches() -> None:
    assert patch_timestamps([0.0, 0.5, 1.0], grid_t=1, temporal_patch_size=2) == [0.0]
    assert patch_timestamps([0.0, 0.5], grid_t=3, temporal_patch_size=2) == [0.0, 0.0, 0.0]
