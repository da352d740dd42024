"""Images and clips to patches, as Hugging Face's processors for the GLM-V family make them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from glm4v_core.canvas import Canvas
from glm4v_core.patches import Patches, patchify
from glm4v_core.pixels import (
    ImageInput,
    VideoInput,
    clip_pixels,
    image_pixels,
    lay_on_canvas,
    list_images,
    list_videos,
    resize_frame,
)
from glm4v_core.processor_files import read_image_settings, read_video_settings
from glm4v_core.processor_settings import Features, ProcessorSettings, ReturnTensors, as_tensors, joined
from glm4v_core.sampling import (
    SAMPLERS,
    Sampler,
    VideoMetadata,
    fill_up,
    list_metadata,
    patch_timestamps,
    sample_frames,
    thin,
)

if TYPE_CHECKING:
    from glm4v_core.video_source import VideoSource

#: What the checkpoints are shipped with: 4.8 million pixels an image, which counts as two frames.
CHECKPOINT_IMAGE_SIZE = {"shortest_edge": 112 * 112, "longest_edge": 9_633_792}
#: What transformers' class takes where a checkpoint's file names no size: 5.9 million pixels an image.
TRANSFORMERS_IMAGE_SIZE = {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 15_000}
#: 30,000 tokens a clip, over all of its sampled frames.
VIDEO_SIZE = {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 2 * 30_000}

_SAMPLES_PER_SECOND = 2.0


@dataclass(frozen=True, kw_only=True)
class Glm4vImageProcessor(ProcessorSettings):
    """Resizes images to whole cells within a pixel budget, cuts them into patches and normalises them.

    The default budget is the one that the checkpoints are shipped with; `size=TRANSFORMERS_IMAGE_SIZE` gives the one
    of transformers' class. An image opened with PIL is taken as it lies, as Hugging Face's processors do: for its EXIF
    orientation pass the path, or use `read_image`. Transparency is laid on white.
    """

    size: Mapping[str, int] = field(default_factory=CHECKPOINT_IMAGE_SIZE.copy)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Read a checkpoint directory or one JSON file; keys that mean nothing here are left aside.

        Raises:
            FileNotFoundError: there are no settings in the directory.
            ValueError: the settings are another model's.
        """
        return cls(**{"size": TRANSFORMERS_IMAGE_SIZE, **_known(cls, read_image_settings(path))})

    def __call__(self, images: Any, *, return_tensors: ReturnTensors = None, **settings: Any) -> Features:
        """Return `pixel_values` float32 (patches of all images, 1176) and `image_grid_thw` int64 (images, 3).

        Args:
            images: PIL images, arrays or tensors (H, W, C) or (C, H, W), or paths: one, a list, or a 4-D batch.
            return_tensors: None or "pt" for torch tensors, "np" for numpy arrays.
            settings: any of this class's settings, for this call only.

        Raises:
            ValueError: an image that cannot be used (`MediaError` if it is a file).
        """
        processor = self._overridden(settings)
        items = [processor.patches(image) for image in list_images(images)]
        features = {
            "pixel_values": processor._normalized(joined([item.data for item in items]), frames_per_patch=1),
            "image_grid_thw": torch.tensor([item.grid_thw for item in items]),
        }
        return as_tensors(features, return_tensors)

    def patches(self, image: ImageInput) -> Patches:
        """Return one image as patches of one frame: uint8 (h*w, 588) unless the image holds other numbers."""
        pixels = image_pixels(image, convert_rgb=self.do_convert_rgb)
        self._warn_of_small_floats(pixels)
        canvas = self._canvas(self.temporal_patch_size, pixels.shape[-2], pixels.shape[-1])
        resized = lay_on_canvas(resize_frame(pixels, *canvas.picture_size), canvas)
        return patchify(resized[None], patch_size=self.patch_size, merge_size=self.merge_size)

    def count_image_tokens(self, width: int, height: int) -> int:
        """Return the number of tokens that an image of this size in pixels becomes."""
        canvas = self._canvas(self.temporal_patch_size, height, width)
        return canvas.height * canvas.width // self.cell**2

    def with_options(self, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Self:
        """Return a processor that keeps each image's pixels, after resizing, between these; None leaves it open.

        Raises:
            ValueError: a bound of less than one token, or bounds the wrong way round.
        """
        return self._overridden({"min_pixels": min_pixels, "max_pixels": max_pixels})


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """What a clip will become, known before any of it is decoded."""

    #: The frames to read, in order; as many as the temporal patches hold, so the last may be repeated.
    frame_indices: list[int]
    grid_thw: tuple[int, int, int]
    #: Of every frame.
    canvas: Canvas
    #: Seconds at which each temporal patch begins; None where the clip's frame rate is unknown.
    timestamps: list[float] | None

    def frames_of(self, source: VideoSource) -> Iterator[Tensor]:
        """Read the planned frames of an open clip, each (3, H, W) uint8 as it is to be cut into patches."""
        for picture in source.frames(self.frame_indices, size=self.canvas.picture_size):
            yield lay_on_canvas(picture, self.canvas)


@dataclass(frozen=True, kw_only=True)
class Glm4vVideoProcessor(ProcessorSettings):
    """Samples a clip's frames, resizes them within one pixel budget for all, cuts and normalises them."""

    size: Mapping[str, int] = field(default_factory=VIDEO_SIZE.copy)
    sampler: Sampler = "glm4v"
    do_sample_frames: bool = True
    #: Frames sampled per second; None is the sampler's own choice: 2 for all but "glm46v".
    fps: float | None = None
    #: Seconds. Of a longer clip "glm4v" takes a fixed number of frames, spread over all of it; no other sampler asks.
    max_duration: float = 300
    #: At most so many distinct frames, thinned evenly.
    max_frames: int | None = None

    OPTIONS: ClassVar[frozenset[str]] = ProcessorSettings.OPTIONS | {"max_frames"}

    def _check_options(self) -> None:
        super()._check_options()
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {self.sampler!r}: choose one of {', '.join(SAMPLERS)}")
        if self.fps is not None and self.sampler == "glm46v":
            raise ValueError(
                "fps cannot be set for the glm46v sampler: GLM-4.6V chooses the rate by the clip's duration"
            )
        for name in ("fps", "max_duration", "max_frames"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Read a checkpoint directory or one JSON file; the processor's type in it decides the sampler.

        Raises:
            FileNotFoundError: there are no settings in the directory.
            ValueError: the settings are another model's.
        """
        known = _known(cls, read_video_settings(path))
        if known["sampler"] == "glm46v":
            # GLM-4.6V's files hold an fps that its sampler never looks at.
            known.pop("fps", None)
        return cls(**known)

    def __call__(
        self, videos: Any, *, video_metadata: Any = None, return_tensors: ReturnTensors = None, **settings: Any
    ) -> Features:
        """Return `pixel_values_videos` float32 (patches of all clips, 1176), `video_grid_thw` int64 (clips, 3) and
        `timestamps`: for each clip the seconds at which its temporal patches begin, as a list of floats; None where the
        frame rate is unknown, which can only be with `do_sample_frames=False`.

        Args:
            videos: arrays or tensors (T, C, H, W) or (T, H, W, C), lists of frames, or paths: one, a list, a 5-D batch.
            video_metadata: one for each clip (`VideoMetadata`, or a dict of its fields); none for a path.
            return_tensors: None or "pt" for torch tensors, "np" for numpy arrays.
            settings: any of this class's settings, for this call only.

        Raises:
            ValueError: a clip that cannot be used (`MediaError` if it is a file), or metadata missing or not its own.
        """
        processor = self._overridden(settings)
        clips = list_videos(videos)
        metadata = list_metadata(video_metadata, len(clips))
        items = [processor._pixel_values(clip, known) for clip, known in zip(clips, metadata, strict=True)]
        features = {
            "pixel_values_videos": joined([values for values, _ in items]),
            "video_grid_thw": torch.tensor([plan.grid_thw for _, plan in items]),
            "timestamps": [plan.timestamps for _, plan in items],
        }
        return as_tensors(features, return_tensors)

    def patches(self, video: VideoInput, metadata: VideoMetadata | None = None) -> tuple[Patches, VideoPlan]:
        """Return one clip as patches, uint8 (t*h*w, 1176) unless it holds other numbers, and the plan they follow."""
        with self._opened(video, metadata) as (plan, frames):
            return Patches(data=_gathered(self._cut(frames), plan.grid_thw[0]), grid_thw=plan.grid_thw), plan

    def plan(self, metadata: VideoMetadata | Mapping[str, Any], height: int, width: int) -> VideoPlan:
        """Say what a clip of frames of this size in pixels will become. The metadata speaks of the whole clip.

        Raises:
            ValueError: the metadata does not suffice, or the frames cannot be resized.
        """
        clip = VideoMetadata.of(metadata)
        indices = self._thinned(self._sampled(clip) if self.do_sample_frames else list(range(clip.total_num_frames)))
        return self._plan(indices, clip.times_of(indices), height, width)

    def count_video_tokens(
        self, width: int, height: int, frames: int, fps: float, duration: float | None = None
    ) -> int:
        """Return the number of tokens that a clip becomes: size in pixels, duration in seconds."""
        metadata = VideoMetadata(total_num_frames=frames, fps=fps, duration=duration)
        return self._count_tokens(self.plan(metadata, height, width).grid_thw)

    def with_options(
        self,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        fps: float | None = None,
        max_frames: int | None = None,
    ) -> Self:
        """Return a processor with these bounds on one frame's pixels, its rate and its number of frames.

        None leaves a bound open, and the rate as it is.

        Raises:
            ValueError: a bound that cannot be, or `fps` for the "glm46v" sampler, which has its own.
        """
        options = {"min_pixels": min_pixels, "max_pixels": max_pixels, "max_frames": max_frames}
        return self._overridden(options if fps is None else {**options, "fps": fps})

    def _sampled(self, clip: VideoMetadata) -> list[int]:
        return sample_frames(
            clip,
            sampler=self.sampler,
            fps=self.fps or _SAMPLES_PER_SECOND,
            max_duration=self.max_duration,
            temporal_patch_size=self.temporal_patch_size,
        )

    def _thinned(self, indices: list[int]) -> list[int]:
        if self.max_frames is None or len(set(indices)) <= self.max_frames:
            return indices
        return fill_up(thin(indices, self.max_frames), self.temporal_patch_size)

    def _plan(self, indices: list[int], times: list[float] | None, height: int, width: int) -> VideoPlan:
        """Plan for these frames; only afterwards is the last repeated: the budget counts them without it."""
        canvas = self._canvas(len(indices), height, width)
        filled = fill_up(indices, self.temporal_patch_size)
        grid_t = len(filled) // self.temporal_patch_size
        return VideoPlan(
            frame_indices=filled,
            grid_thw=(grid_t, canvas.height // self.patch_size, canvas.width // self.patch_size),
            canvas=canvas,
            timestamps=times and patch_timestamps(times, grid_t=grid_t, temporal_patch_size=self.temporal_patch_size),
        )

    def _pixel_values(self, video: VideoInput, metadata: VideoMetadata | None) -> tuple[Tensor, VideoPlan]:
        with self._opened(video, metadata) as (plan, frames):
            # Normalised as they come: never are a long clip's bytes and its floats in memory together.
            rows = (self._normalized(cut, frames_per_patch=self.temporal_patch_size) for cut in self._cut(frames))
            return _gathered(rows, plan.grid_thw[0]), plan

    @contextmanager
    def _opened(
        self, video: VideoInput, metadata: VideoMetadata | None
    ) -> Iterator[tuple[VideoPlan, Iterator[Tensor]]]:
        """Give a clip's plan, and its frames as they are asked for: resized, (C, H, W)."""
        if not isinstance(video, (str, os.PathLike)):
            yield self._chosen(clip_pixels(video, convert_rgb=self.do_convert_rgb), metadata)
            return
        if metadata is not None:
            raise ValueError(f"{video} is a path, whose metadata is read from the file: pass no video_metadata for it")
        # PyAV is needed for files only: arrays and images do without it.
        from glm4v_core.video_reading import open_video

        with open_video(video) as source:
            plan = self.plan(source.metadata, source.height, source.width)
            yield plan, plan.frames_of(source)

    def _chosen(self, frames: Tensor, metadata: VideoMetadata | None) -> tuple[VideoPlan, Iterator[Tensor]]:
        self._warn_of_small_floats(frames)
        height, width = frames.shape[-2:]
        if not self.do_sample_frames:
            given = self._thinned(list(range(len(frames))))
            times = None if metadata is None else metadata.times_of_given(given, len(frames))
            plan = self._plan(given, times, height, width)
        elif metadata is not None:
            plan = self.plan(metadata, height, width)
        else:
            raise ValueError(
                "sampling needs to know the clip: pass video_metadata={'fps': ..., 'total_num_frames': ...},"
                " or do_sample_frames=False to use every frame"
            )
        last = max(plan.frame_indices)
        if last >= len(frames):
            raise ValueError(f"frame {last} was sampled of a clip of {len(frames)}: its total_num_frames is wrong")
        resized = (resize_frame(frames[index], *plan.canvas.picture_size) for index in plan.frame_indices)
        return plan, (lay_on_canvas(picture, plan.canvas) for picture in resized)

    def _cut(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Cut one temporal patch after another into rows."""
        size = self.temporal_patch_size
        while group := list(islice(frames, size)):
            yield patchify(
                torch.stack(group), patch_size=self.patch_size, merge_size=self.merge_size, frames_per_patch=size
            ).data


def _gathered(parts: Iterator[Tensor], count: int) -> Tensor:
    """Put `count` equal parts one after another in one tensor, holding no more than one of them beside it."""
    first = next(parts)
    whole = first.new_empty((count, *first.shape))
    for place, part in enumerate(chain([first], parts)):
        whole[place] = part
    return whole.flatten(0, 1)


def _known(cls: type[ProcessorSettings], settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)} - cls.OPTIONS
    return {name: value for name, value in settings.items() if name in names and value is not None}
