"""The processors against transformers' own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor as TheirImageProcessor
from transformers.models.glm4v.image_processing_glm4v import smart_resize as their_smart_resize
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor as TheirVideoProcessor
from transformers.models.glm5_next.image_processing_glm5_next import Glm5NextImageProcessor
from transformers.models.glm5_next.image_processing_glm5_next import smart_resize as glm5_next_smart_resize
from transformers.models.glm5_next.video_processing_glm5_next import Glm5NextVideoProcessor
from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor as TheirNewVideoProcessor
from transformers.video_utils import VideoMetadata as TheirMetadata

from glm4v_core import Glm4vVisionConfig
from glm4v_core.canvas import fit_canvas
from glm4v_core.embedding_pipeline import default_processors
from glm4v_core.processing import (
    CHECKPOINT_IMAGE_SIZE,
    TRANSFORMERS_IMAGE_SIZE,
    Glm4vImageProcessor,
    Glm4vVideoProcessor,
)
from glm4v_core.resize import smart_resize
from glm4v_core.sampling import SAMPLERS, Sampler, VideoMetadata, sample_frames

pytestmark = [
    pytest.mark.filterwarnings("ignore:float pixels within 0..1"),
    # Theirs, of numpy reading torch tensors.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

THEIR_VIDEO_PROCESSORS = {
    "glm4v": TheirVideoProcessor,
    "glm46v": TheirNewVideoProcessor,
    "glm5_next": Glm5NextVideoProcessor,
}
GLM5_NEXT = default_processors(Glm4vVisionConfig.from_dict({"model_type": "glm5_next", "vision_config": {}}))
OUR_VIDEO_PROCESSORS = {
    "glm4v": Glm4vVideoProcessor(),
    "glm46v": Glm4vVideoProcessor(sampler="glm46v"),
    "glm5_next": GLM5_NEXT[1],
}


@cache
def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Pixels that change everywhere, so that no shift, swap or rounding goes unseen."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    image = Image.fromarray(noise(height, width, 3))
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(noise(height, width, seed=1)))
    return image.convert(mode)


def palette_with_transparency() -> Image.Image:
    image = photo(90, 70).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    buffer = BytesIO()
    image.save(buffer, "PNG", transparency=bytes(range(0, 256, 8)))
    return Image.open(buffer)


def keyed_rgb() -> Image.Image:
    image = photo(60, 60)
    image.info["transparency"] = image.getpixel((3, 3))
    return image


def gray_16_bits() -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 65536, (64, 80), dtype=np.uint16))


def turned_by_exif() -> Image.Image:
    buffer = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(120, 60).save(buffer, "JPEG", exif=exif, quality=95)
    return Image.open(buffer)


IMAGES: dict[str, Callable[[], Any]] = {
    "vga": lambda: photo(640, 480),
    "square": lambda: photo(336, 336),
    "already whole cells": lambda: photo(280, 196),
    "one cell": lambda: photo(28, 28),
    "odd sides": lambda: photo(333, 217),
    "halves of cells": lambda: photo(70, 42),
    "tall": lambda: photo(40, 1200),
    "wide": lambda: photo(1200, 40),
    "199 to 1": lambda: photo(28 * 199, 28),
    "one side under 28": lambda: photo(300, 11),
    "both sides under 28": lambda: photo(13, 9),
    "1x1": lambda: photo(1, 1),
    "under the least pixels": lambda: photo(60, 50),
    "100x100": lambda: photo(100, 100),
    "1080p": lambda: photo(1920, 1080),
    "over the budget": lambda: photo(3000, 2400),
    "over the budget and tall": lambda: photo(1100, 5000),
    "gray": lambda: photo(123, 97, "L"),
    "gray and alpha": lambda: photo(123, 97, "LA"),
    "palette": lambda: photo(123, 97, "P"),
    "palette with transparency": palette_with_transparency,
    "one transparent colour": keyed_rgb,
    "rgba": lambda: photo(123, 97, "RGBA"),
    "1 bit": lambda: photo(123, 97, "1"),
    "16 bits": gray_16_bits,
    "32 bits": lambda: photo(64, 48, "I"),
    "floats": lambda: photo(64, 48, "F"),
    "cmyk": lambda: photo(123, 97, "CMYK"),
    "ycbcr": lambda: photo(123, 97, "YCbCr"),
    "hsv": lambda: photo(123, 97, "HSV"),
    "exif is left alone": turned_by_exif,
    "array hwc": lambda: noise(90, 120, 3),
    "array chw": lambda: noise(3, 90, 120),
    "array gray hwc": lambda: noise(90, 120, 1),
    "array gray chw": lambda: noise(1, 90, 120),
    "array rgba": lambda: noise(90, 120, 4),
    "array of three lines": lambda: noise(3, 120, 3),
    "array uint16": lambda: noise(60, 80, 3).astype(np.uint16) * 200,
    "array int32": lambda: noise(60, 80, 3).astype(np.int32),
    "array float 0..1": lambda: noise(60, 80, 3).astype(np.float32) / 255,
    "array float 0..255": lambda: noise(60, 80, 3).astype(np.float32),
    "array float64": lambda: noise(60, 80, 3).astype(np.float64),
    "array float rgba": lambda: noise(60, 80, 4).astype(np.float32) / 255,
    "array not contiguous": lambda: noise(120, 160, 3)[::2, ::2],
    "tensor chw": lambda: torch.from_numpy(noise(3, 75, 110)),
    "tensor hwc": lambda: torch.from_numpy(noise(75, 110, 3)),
    "tensor float": lambda: torch.from_numpy(noise(3, 75, 110)).float(),
    "tensor bfloat16": lambda: torch.from_numpy(noise(3, 75, 110)).bfloat16(),
    "tensor normal": lambda: torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(0)),
    "batch of arrays": lambda: noise(3, 60, 90, 3),
    "batch of tensors": lambda: torch.from_numpy(noise(2, 3, 60, 90)),
    "several of one size": lambda: [photo(90, 60), photo(90, 60)],
    "several sizes": lambda: [photo(90, 60), photo(200, 300), photo(90, 60), photo(20, 20)],
    "several kinds": lambda: [photo(90, 60, "L"), noise(80, 70, 3), torch.from_numpy(noise(3, 50, 40))],
    "nested lists": lambda: [[photo(90, 60)], [photo(70, 70), photo(30, 40)]],
    "uint8 with float": lambda: [noise(60, 80, 3), noise(60, 80, 3).astype(np.float32)],
}

IMAGE_SETTINGS: dict[str, dict[str, Any]] = {
    "class default size": {"size": TRANSFORMERS_IMAGE_SIZE},
    "small size": {"size": {"shortest_edge": 28 * 28 * 8, "longest_edge": 28 * 28 * 40}},
    "large least size": {"size": {"shortest_edge": 28 * 28 * 1000, "longest_edge": 28 * 28 * 4000}},
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "neither": {"do_normalize": False, "do_rescale": False},
    "other numbers": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3], "rescale_factor": 1 / 127.5},
    "one mean for all": {"image_mean": 0.5, "image_std": 0.25},
    "other patches": {"patch_size": 16, "merge_size": 1},
    "three frames a patch": {"temporal_patch_size": 3},
}


def their_image_processor(**values: Any) -> TheirImageProcessor:
    return TheirImageProcessor(**{"size": CHECKPOINT_IMAGE_SIZE, **values})


def assert_same(ours: Any, theirs: Any, names: tuple[str, str]) -> None:
    for name in names:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("name", IMAGES)
def test_images_become_the_same_pixel_values(name: str) -> None:
    images = IMAGES[name]()
    theirs = their_image_processor()(images=images, return_tensors="pt")
    ours = Glm4vImageProcessor()(images=images, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values", "image_grid_thw"))


# Bounds on its tokens that small images meet: the published ones, 16 and 8,000, and narrower ones.
PADDED_IMAGES = ["vga", "already whole cells", "odd sides", "tall", "199 to 1", "1x1", "100x100", "gray", "rgba"]


@pytest.mark.parametrize("name", [*PADDED_IMAGES, "several sizes", "tensor float", "over the budget"])
@pytest.mark.parametrize("bounds", [{}, {"min_image_tokens": 40, "max_image_tokens": 90}])
def test_glm_5_3_flashs_images_become_the_same_pixel_values(name: str, bounds: dict[str, int], tmp_path: Path) -> None:
    images = IMAGES[name]()
    their_processor = Glm5NextImageProcessor(**bounds)
    their_processor.save_pretrained(tmp_path)
    theirs = their_processor(images=images, return_tensors="pt")
    ours = Glm4vImageProcessor.from_pretrained(tmp_path)(images=images, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values", "image_grid_thw"))


@settings(max_examples=2000, deadline=None)
@given(
    frames=st.integers(1, 700),
    height=st.integers(1, 9000) | st.integers(1, 60),
    width=st.integers(1, 9000) | st.integers(1, 60),
    tokens=st.tuples(st.integers(1, 100), st.integers(400, 20_000)),
)
def test_glm_5_3_flashs_resize_arithmetic_is_theirs(
    frames: int, height: int, width: int, tokens: tuple[int, int]
) -> None:
    fewest, most = tokens
    theirs = glm5_next_smart_resize(frames, height, width, min_pixels=fewest, max_pixels=most)
    pixels = 2 * 28**2
    ours = fit_canvas("pad", frames, height, width, min_pixels=fewest * pixels, max_pixels=most * pixels)
    assert (ours.height, ours.width) == theirs


@pytest.mark.parametrize("name", IMAGE_SETTINGS)
def test_image_settings_mean_the_same(name: str) -> None:
    images = [photo(320, 240), noise(333, 217, 3), torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))]
    theirs = their_image_processor(**IMAGE_SETTINGS[name])(images=images, return_tensors="pt")
    ours = Glm4vImageProcessor(**IMAGE_SETTINGS[name])(images=images, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values", "image_grid_thw"))


@pytest.mark.parametrize("name", ["vga", "gray", "array chw"])
def test_images_that_are_not_to_be_resized_or_converted_are_not(name: str) -> None:
    images = noise(56, 84, 3) if name == "array chw" else photo(84, 56, "L" if name == "gray" else "RGB")
    values = {"do_resize": False, "do_convert_rgb": False, "do_normalize": name != "gray"}
    theirs = their_image_processor(**values)(images=images, return_tensors="pt")
    ours = Glm4vImageProcessor(**values)(images=images, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values", "image_grid_thw"))


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        pytest.param(noise(28 * 201, 28, 3), "too thin", id="too thin"),
        pytest.param(noise(50, 50, 2), "cannot tell the channels", id="two channels"),
        pytest.param(noise(50, 50, 4).astype(np.float32), "must lie in 0..1", id="float alpha beyond 1"),
        pytest.param([], "expected an image", id="no image"),
        pytest.param([None], "expected an image", id="no image in a list"),
    ],
)
def test_images_that_they_refuse_are_refused_as_values(images: Any, reason: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError)):
        their_image_processor()(images=images, return_tensors="pt")
    with pytest.raises(ValueError, match=reason):
        Glm4vImageProcessor()(images=images, return_tensors="pt")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_images_of_any_size_become_the_same_pixel_values(width: int, height: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = {"size": {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 100}}
    try:
        theirs = their_image_processor(**small)(images=Image.fromarray(image), return_tensors="pt")
    except ValueError:
        with pytest.raises(ValueError, match="too thin"):
            Glm4vImageProcessor(**small)(images=Image.fromarray(image))
        return
    ours = Glm4vImageProcessor(**small)(images=Image.fromarray(image))
    assert_same(ours, theirs, ("pixel_values", "image_grid_thw"))


@settings(max_examples=2000, deadline=None)
@given(
    frames=st.integers(0, 700),
    height=st.integers(1, 9000) | st.integers(1, 60),
    width=st.integers(1, 9000) | st.integers(1, 60),
    temporal_factor=st.integers(1, 4),
    factor=st.sampled_from([14, 16, 28, 32]),
    min_pixels=st.integers(1, 100_000),
    max_pixels=st.integers(100_000, 60_000_000),
)
def test_the_resize_arithmetic_is_theirs(**case: int) -> None:
    arguments = {key: value for key, value in case.items() if key != "frames"}
    try:
        theirs = their_smart_resize(num_frames=case["frames"], **arguments)
    except ValueError:
        with pytest.raises(ValueError, match=r"fewer than one temporal patch|too thin"):
            smart_resize(case["frames"], **arguments)
        return
    assert smart_resize(case["frames"], **arguments) == theirs


# Frame count, size, frames a second, seconds (None: not stated).
CLIPS: dict[str, tuple[int, tuple[int, int], float, float | None]] = {
    "1 frame at 24": (1, (60, 80), 24, None),
    "1 frame at 30": (1, (60, 80), 30, 1 / 30),
    "2 frames at 25": (2, (60, 80), 25, 0.08),
    "7 frames at 24": (7, (60, 80), 24, None),
    "7 frames at 2": (7, (60, 80), 2, 3.5),
    "16 frames at 30": (16, (60, 80), 30, 0.533),
    "16 frames at 24": (16, (60, 80), 24, 16 / 24),
    "300 frames at 24": (300, (60, 80), 24, 12.5),
    "300 frames at 25": (300, (30, 40), 25, 12.0),
    "300 frames at 30": (300, (30, 40), 30, 10.0),
    "300 frames at 29.97": (300, (30, 40), 30000 / 1001, None),
    "300 frames of variable rate": (300, (30, 40), 21.57788, 13.9),
    "300 s": (300, (30, 40), 1, 300.0),
    "over 300 s": (700, (30, 40), 2, 350.0),
    "over 300 s, few frames": (310, (30, 40), 1, 310.0),
    "over 2400 s": (500, (30, 40), 0.2, 2500.0),
    "over the budget": (40, (720, 1280), 2, 20.0),
}


def clip(name: str) -> tuple[np.ndarray, dict[str, Any]]:
    frames, (height, width), fps, duration = CLIPS[name]
    metadata = {"total_num_frames": frames, "fps": fps, "duration": duration}
    return noise(frames, 3, height, width), metadata


def their_timestamps(metadata: TheirMetadata, grid_t: int) -> list[float]:
    """What their text processor writes beside each temporal patch."""
    times = metadata.timestamps[::2][:grid_t]
    return times + [times[-1]] * (grid_t - len(times))


# Their newer samplers take no frame at all of clips this short; tests/unit/test_sampling.py says what ours does.
NO_FRAMES_OF_THEIRS = {"1 frame at 30", "2 frames at 25"}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        (name, sampler)
        for sampler in SAMPLERS
        for name in CLIPS
        if sampler == "glm4v" or name not in NO_FRAMES_OF_THEIRS
    ],
)
def test_clips_become_the_same_pixel_values(name: str, sampler: Sampler) -> None:
    pixels, metadata = clip(name)
    theirs = THEIR_VIDEO_PROCESSORS[sampler]()(
        videos=pixels, video_metadata=metadata, return_metadata=True, return_tensors="pt"
    )
    ours = OUR_VIDEO_PROCESSORS[sampler](videos=pixels, video_metadata=metadata, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values_videos", "video_grid_thw"))
    assert ours.timestamps == [their_timestamps(theirs["video_metadata"][0], ours.video_grid_thw[0, 0])]


VIDEO_INPUTS: dict[str, Callable[[], Any]] = {
    "array thwc": lambda: noise(9, 40, 60, 3),
    "tensor tchw": lambda: torch.from_numpy(noise(9, 3, 40, 60)),
    "tensor gray": lambda: torch.from_numpy(noise(9, 1, 40, 60)),
    "tensor normal": lambda: torch.randn(16, 3, 224, 224, generator=torch.Generator().manual_seed(0)),
    "float 0..1": lambda: torch.rand(9, 3, 40, 60, generator=torch.Generator().manual_seed(0)),
    "list of pil frames": lambda: [photo(60, 40) for _ in range(9)],
    "list of arrays": lambda: list(noise(9, 40, 60, 3)),
    "list of tensors": lambda: list(torch.from_numpy(noise(9, 3, 40, 60))),
    "batch": lambda: noise(2, 9, 3, 40, 60),
    "several of one size": lambda: [noise(9, 3, 40, 60), noise(9, 3, 40, 60, seed=3)],
    "several sizes": lambda: [noise(9, 3, 40, 60), noise(30, 3, 100, 40), noise(9, 3, 40, 60, seed=3)],
    "lists of frames": lambda: [[photo(60, 40)] * 9, [photo(30, 90)] * 4],
    "already whole cells": lambda: noise(8, 3, 84, 140),
}


def each(videos: Any, values: dict[str, Any]) -> Any:
    """One metadata for each clip of the input."""
    one = Glm4vVideoProcessor()(videos, do_sample_frames=False).video_grid_thw.shape[0]
    return [dict(values) for _ in range(one)]


@pytest.mark.parametrize("name", VIDEO_INPUTS)
def test_clips_in_any_form_become_the_same_pixel_values(name: str) -> None:
    videos = VIDEO_INPUTS[name]()
    metadata = each(videos, {"total_num_frames": 4, "fps": 4.0, "duration": 1.0})
    theirs = TheirVideoProcessor()(videos=videos, video_metadata=metadata, return_tensors="pt")
    ours = Glm4vVideoProcessor()(videos=videos, video_metadata=metadata, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values_videos", "video_grid_thw"))


@pytest.mark.parametrize("name", VIDEO_INPUTS)
def test_clips_that_are_not_sampled_become_the_same_pixel_values(name: str) -> None:
    videos = VIDEO_INPUTS[name]()
    theirs = TheirVideoProcessor()(videos=videos, do_sample_frames=False, return_tensors="pt")
    ours = Glm4vVideoProcessor()(videos=videos, do_sample_frames=False, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values_videos", "video_grid_thw"))


@pytest.mark.parametrize("values", [{"fps": 1}, {"fps": 7.5}, {"max_duration": 5}, {"max_duration": 1}])
def test_sampling_settings_mean_the_same(values: dict[str, Any]) -> None:
    pixels, metadata = clip("300 frames at 24")
    theirs = TheirVideoProcessor(**values)(videos=pixels, video_metadata=metadata, return_tensors="pt")
    ours = Glm4vVideoProcessor(**values)(videos=pixels, video_metadata=metadata, return_tensors="pt")
    assert_same(ours, theirs, ("pixel_values_videos", "video_grid_thw"))


NOT_SAMPLED = {"do_sample_frames": False}


@pytest.mark.parametrize(
    ("videos", "arguments", "reason"),
    [
        pytest.param(noise(9, 3, 40, 60), {}, "pass video_metadata", id="no metadata"),
        pytest.param(noise(1, 3, 40, 60), NOT_SAMPLED, "repeat the last", id="half a temporal patch"),
        pytest.param(noise(9, 4, 40, 60), NOT_SAMPLED, "cannot tell the channels", id="alpha"),
        pytest.param([photo(60, 40), photo(50, 40)], NOT_SAMPLED, "must have one size", id="frames of two sizes"),
        pytest.param(
            [noise(9, 3, 40, 60)] * 2,
            {"video_metadata": {"total_num_frames": 9, "fps": 3}},
            "pass one for each",
            id="metadata of one clip for two",
        ),
        pytest.param(
            noise(9, 3, 40, 60),
            {"video_metadata": {"total_num_frames": 90, "fps": 3}},
            "total_num_frames is wrong",
            id="fewer frames than the metadata says",
        ),
    ],
)
def test_clips_that_they_refuse_are_refused_as_values(videos: Any, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        TheirVideoProcessor()(videos=videos, return_tensors="pt", **arguments)
    with pytest.raises(ValueError, match=reason):
        Glm4vVideoProcessor()(videos=videos, return_tensors="pt", **arguments)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_samplers_are_theirs(sampler: Sampler) -> None:
    their_processor = THEIR_VIDEO_PROCESSORS[sampler]()

    @settings(max_examples=300, deadline=None)
    @given(st.integers(1, 3000), st.floats(0.5, 120), st.none() | st.floats(0, 4000))
    def compare(frames: int, fps: float, duration: float | None) -> None:
        theirs = their_processor.sample_frames(
            TheirMetadata(total_num_frames=frames, fps=fps, duration=duration), fps=2
        )
        if len(theirs) == 0:
            theirs = np.array([0, 0])
        metadata = VideoMetadata(total_num_frames=frames, fps=fps, duration=duration)
        assert sample_frames(metadata, sampler=sampler) == theirs.tolist()

    compare()


def test_their_metadata_records_are_taken_too() -> None:
    pixels, metadata = clip("16 frames at 24")
    ours = Glm4vVideoProcessor()(videos=pixels, video_metadata=TheirMetadata(**metadata))
    assert torch.equal(
        ours.pixel_values_videos, Glm4vVideoProcessor()(videos=pixels, video_metadata=metadata).pixel_values_videos
    )
