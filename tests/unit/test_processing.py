from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glm4v_core.processing import (
    CHECKPOINT_IMAGE_SIZE,
    TRANSFORMERS_IMAGE_SIZE,
    Glm4vImageProcessor,
    Glm4vVideoProcessor,
)
from glm4v_core.sampling import SAMPLERS, Sampler, VideoMetadata

PIXELS_OF_A_TOKEN = 28 * 28


def gray(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 90, 90))


def clip(frames: int = 16, height: int = 60, width: int = 80) -> torch.Tensor:
    return torch.zeros(frames, 3, height, width, dtype=torch.uint8)


# Calls


def test_the_result_is_a_dict_that_also_has_attributes() -> None:
    features = Glm4vImageProcessor()(images=gray(100, 100), return_tensors="pt")
    assert dict(features).keys() == {"pixel_values", "image_grid_thw"}
    assert features.pixel_values is features["pixel_values"]
    assert features.pixel_values.shape == (64, 1176)
    assert features.image_grid_thw.tolist() == [[1, 8, 8]]
    with pytest.raises(AttributeError, match="no 'pixels' among pixel_values"):
        _ = features.pixels


def test_numpy_arrays_are_given_when_asked_for() -> None:
    features = Glm4vVideoProcessor()(
        videos=clip(), video_metadata={"fps": 30.0, "duration": 0.533, "total_num_frames": 16}, return_tensors="np"
    )
    assert isinstance(features.pixel_values_videos, np.ndarray)
    assert features.video_grid_thw.dtype == np.int64
    assert features.timestamps == [[0.0]]


def test_another_kind_of_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="return_tensors 'tf'"):
        Glm4vImageProcessor()(gray(28, 28), return_tensors="tf")  # type: ignore[arg-type]


@pytest.mark.parametrize("processor", [Glm4vImageProcessor, Glm4vVideoProcessor])
def test_an_unknown_argument_is_an_error_that_names_it(processor: Any) -> None:
    with pytest.raises(TypeError, match="max_image_size"):
        processor(max_image_size=3)
    with pytest.raises(TypeError, match="do_pad"):
        processor()(gray(28, 28), do_pad=True)


def test_settings_may_be_given_for_one_call() -> None:
    processor = Glm4vImageProcessor()
    assert processor(gray(56, 28), do_resize=False).image_grid_thw.tolist() == [[1, 2, 4]]
    assert processor.do_resize


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"patch_size": 0}, "patch_size must be positive"),
        ({"resample": 2}, "bicubic"),
        ({"image_std": [0.1, 0.0, 0.1]}, "image_std must not hold a zero"),
        ({"size": {"height": 100, "width": 100}}, "shortest_edge and longest_edge"),
        ({"size": {"shortest_edge": 2000, "longest_edge": 1000}}, "2000 is more than longest_edge 1000"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Glm4vImageProcessor(**values)


# The mistakes of earlier extractions of this tower


def test_the_size_setting_decides_how_large_an_image_may_be() -> None:
    large = gray(3840, 2160)
    assert Glm4vImageProcessor()(large).image_grid_thw.tolist() == [[1, 116, 208]]
    assert Glm4vImageProcessor(size=CHECKPOINT_IMAGE_SIZE)(large).image_grid_thw.tolist() == [[1, 116, 208]]
    assert Glm4vImageProcessor(size=TRANSFORMERS_IMAGE_SIZE)(large).image_grid_thw.tolist() == [[1, 128, 230]]


def test_every_clip_of_a_call_has_its_own_grid_and_timestamps() -> None:
    videos = [clip(8), clip(4, height=120)]
    metadata = [
        {"fps": 2.0, "total_num_frames": 8, "duration": 4.0},
        {"fps": 2.0, "total_num_frames": 4, "duration": 2},
    ]
    features = Glm4vVideoProcessor()(videos, video_metadata=metadata)
    assert features.video_grid_thw.dtype == torch.int64
    assert features.video_grid_thw[:, 0].tolist() == [4, 2]
    assert features.timestamps == [[0.0, 1.0, 2.0, 3.0], [0.0, 1.0]]
    assert len(features.pixel_values_videos) == features.video_grid_thw.prod(dim=1).sum()


def test_floats_keep_their_values_on_the_way_to_patches() -> None:
    pixels = torch.full((3, 56, 56), 0.75)
    with pytest.warns(UserWarning, match="rescaled by 1/255 again"):
        patches = Glm4vImageProcessor().patches(pixels)
    assert patches.data.dtype == torch.float32
    assert torch.allclose(patches.data, torch.tensor(0.75))


def test_floats_that_need_no_rescaling_are_taken_without_a_warning() -> None:
    values = Glm4vImageProcessor(do_rescale=False, image_mean=0.5, image_std=0.5)(torch.full((3, 56, 56), 0.75))
    assert torch.allclose(values.pixel_values, torch.tensor(0.5))


@pytest.mark.parametrize("metadata", [None, {"total_num_frames": 16}])
def test_missing_video_metadata_is_an_error_that_says_what_to_pass(metadata: dict[str, Any] | None) -> None:
    with pytest.raises(ValueError, match="pass video_metadata=") as caught:
        Glm4vVideoProcessor()(clip(), video_metadata=metadata)
    assert "fps" in str(caught.value)


def test_without_a_frame_rate_there_are_no_timestamps_rather_than_invented_ones() -> None:
    assert Glm4vVideoProcessor()(clip(8), do_sample_frames=False).timestamps == [None]


def test_frames_sampled_beforehand_are_timed_by_where_they_came_from() -> None:
    metadata = VideoMetadata(total_num_frames=100, fps=10, frames_indices=[0, 20, 40, 60])
    assert Glm4vVideoProcessor(do_sample_frames=False)(clip(4), video_metadata=metadata).timestamps == [[0.0, 4.0]]
    with pytest.raises(ValueError, match="names 4 frames and the clip has 6"):
        Glm4vVideoProcessor(do_sample_frames=False)(clip(6), video_metadata=metadata)


def test_whole_clips_that_are_not_sampled_are_timed_frame_by_frame() -> None:
    metadata = {"total_num_frames": 5, "fps": 10}
    features = Glm4vVideoProcessor()(clip(5), video_metadata=metadata, do_sample_frames=False)
    assert features.timestamps == [[0.0, 0.2, 0.4]]


def test_frames_of_a_variable_rate_are_timed_as_they_are_shown() -> None:
    metadata = VideoMetadata(total_num_frames=4, fps=2, duration=2, frame_times=[0.0, 0.1, 1.2, 1.9])
    plan = Glm4vVideoProcessor().plan(metadata, 60, 80)
    assert plan.frame_indices == [0, 1, 2, 3]
    assert plan.timestamps == [0.0, 1.2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_clip_of_one_frame_becomes_one_temporal_patch(sampler: Sampler) -> None:
    features = Glm4vVideoProcessor(sampler=sampler)(clip(1), video_metadata={"fps": 30, "total_num_frames": 1})
    assert features.video_grid_thw[0, 0] == 1
    assert features.timestamps == [[0.0]]


def test_gray_frames_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"frame\.convert\('RGB'\)"):
        Glm4vVideoProcessor()([Image.new("L", (60, 40))] * 4, do_sample_frames=False)


def test_metadata_for_a_path_is_refused_because_the_file_has_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass no video_metadata"):
        Glm4vVideoProcessor()(tmp_path / "clip.mp4", video_metadata={"fps": 30, "total_num_frames": 1})


# Counting


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 1500))
def test_tokens_of_an_image_are_counted_as_the_processor_makes_them(width: int, height: int) -> None:
    processor = Glm4vImageProcessor(size={"shortest_edge": 112 * 112, "longest_edge": 300_000})
    if max(width, height) > 190 * min(width, height):
        return
    grid = processor(gray(width, height)).image_grid_thw
    assert processor.count_image_tokens(width, height) == grid.prod() // 4


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SAMPLERS), st.integers(1, 60), st.sampled_from([1, 5, 24, 30]), st.none() | st.floats(0.01, 40))
def test_tokens_of_a_clip_are_counted_as_the_processor_makes_them(
    sampler: Sampler, frames: int, fps: int, duration: float | None
) -> None:
    processor = Glm4vVideoProcessor(sampler=sampler)
    metadata = {"total_num_frames": frames, "fps": fps, "duration": duration}
    grid = processor(clip(frames), video_metadata=metadata).video_grid_thw
    assert processor.count_video_tokens(80, 60, frames, fps, duration) == grid.prod() // 4


# Options


def test_bounds_on_an_image_are_pixels_after_resizing() -> None:
    processor = Glm4vImageProcessor().with_options(max_pixels=100 * PIXELS_OF_A_TOKEN)
    assert 80 <= processor.count_image_tokens(4000, 3000) <= 100
    processor = Glm4vImageProcessor().with_options(min_pixels=100 * PIXELS_OF_A_TOKEN)
    assert 100 <= processor.count_image_tokens(100, 100) <= 121


def test_bounds_on_a_clip_are_pixels_of_one_frame() -> None:
    processor = Glm4vVideoProcessor().with_options(max_pixels=100 * PIXELS_OF_A_TOKEN)
    for frames in (8, 80, 300):
        plan = processor.plan({"total_num_frames": frames, "fps": 2}, 1080, 1920)
        assert 80 * PIXELS_OF_A_TOKEN <= plan.canvas.height * plan.canvas.width <= 100 * PIXELS_OF_A_TOKEN


def test_options_never_widen_the_checkpoints_budget() -> None:
    wide = {"min_pixels": 10_000_000, "max_pixels": 100_000_000}
    assert Glm4vImageProcessor().with_options(max_pixels=100_000_000).count_image_tokens(4000, 3000) == 6030
    assert Glm4vImageProcessor().with_options(**wide).count_image_tokens(8000, 6000) <= 6144
    plan = Glm4vVideoProcessor().with_options(**wide).plan({"total_num_frames": 600, "fps": 2}, 1080, 1920)
    assert len(plan.frame_indices) * plan.canvas.height * plan.canvas.width <= 47_040_000


def test_a_small_bound_is_kept_for_small_images_too() -> None:
    processor = Glm4vImageProcessor().with_options(max_pixels=4 * PIXELS_OF_A_TOKEN)
    assert processor.count_image_tokens(56, 56) == 4
    assert processor.count_image_tokens(336, 336) == 4


def test_frames_are_thinned_evenly() -> None:
    plan = Glm4vVideoProcessor().with_options(max_frames=4).plan({"total_num_frames": 300, "fps": 30}, 60, 80)
    assert plan.frame_indices == [0, 105, 195, 299]
    assert plan.grid_thw[0] == 2


def test_an_odd_number_of_frames_is_filled_up_with_the_last() -> None:
    plan = Glm4vVideoProcessor(max_frames=1).plan({"total_num_frames": 300, "fps": 30}, 60, 80)
    assert plan.frame_indices == [0, 0]
    plan = Glm4vVideoProcessor(max_frames=3).plan({"total_num_frames": 300, "fps": 30}, 60, 80)
    assert plan.frame_indices[-1] == plan.frame_indices[-2]
    assert len(set(plan.frame_indices)) == 3


def test_more_frames_than_were_sampled_change_nothing() -> None:
    metadata = {"total_num_frames": 300, "fps": 30}
    assert Glm4vVideoProcessor(max_frames=500).plan(metadata, 60, 80) == Glm4vVideoProcessor().plan(metadata, 60, 80)


def test_the_rate_can_be_chosen_for_the_older_models() -> None:
    metadata = {"total_num_frames": 300, "fps": 30, "duration": 10.0}
    assert Glm4vVideoProcessor().with_options(fps=0.5).plan(metadata, 60, 80).grid_thw[0] == 3
    assert Glm4vVideoProcessor(fps=4).with_options(max_frames=100).plan(metadata, 60, 80).grid_thw[0] == 20


def test_the_rate_cannot_be_chosen_for_the_newer_model_and_the_reason_is_said() -> None:
    with pytest.raises(ValueError, match=r"fps cannot be set for the glm46v sampler: GLM-4\.6V chooses"):
        Glm4vVideoProcessor(sampler="glm46v").with_options(fps=1)
    with pytest.raises(ValueError, match="fps cannot be set"):
        Glm4vVideoProcessor(sampler="glm46v")(clip(), video_metadata={"fps": 30, "total_num_frames": 16}, fps=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_pixels": 783}, "less than one token"),
        ({"min_pixels": 0}, "less than one token"),
        ({"min_pixels": 2000, "max_pixels": 1000}, "2000 is more than max_pixels 1000"),
        ({"fps": 0}, "fps must be positive"),
        ({"max_frames": 0}, "max_frames must be positive"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Glm4vVideoProcessor().with_options(**options)


@pytest.mark.parametrize(
    "processor",
    [
        Glm4vImageProcessor(max_pixels=10_000),
        Glm4vVideoProcessor(sampler="glm46v", max_frames=7, image_mean=0.5),
    ],
)
def test_settings_survive_json(processor: Glm4vImageProcessor | Glm4vVideoProcessor) -> None:
    assert type(processor)(**json.loads(json.dumps(processor.to_dict()))) == processor
