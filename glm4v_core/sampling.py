"""Which frames of a clip become tokens, and when each of them is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

#: "glm4v" is GLM-4.1V's and GLM-4.5V's sampler, "glm46v" GLM-4.6V's and GLM-OCR's, "glm5_next" GLM-5.3-Flash's.
Sampler = Literal["glm4v", "glm46v", "glm5_next"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)

# GLM-4.6V samples the more sparsely the longer a clip lasts: up to so many seconds, so many temporal patches a second.
_GLM46V_RATES = ((30, 3.0), (300, 1.0), (2400, 0.5))
_GLM46V_MAX_FRAMES = 640
_GLM5_NEXT_MAX_FRAMES = 2048


@dataclass(frozen=True, kw_only=True)
class VideoMetadata:
    """What is known of a clip before any of its frames is decoded.

    Raises:
        ValueError: a count, a rate or a duration that no clip can have.
    """

    #: Frames in the whole clip, not only in the part that was read.
    total_num_frames: int
    #: Frames per second, on average where the rate varies. Needed for sampling and for timestamps.
    fps: float | None = None
    #: Seconds. Without it the samplers infer it from the other two, as Hugging Face's do.
    duration: float | None = None
    width: int | None = None
    height: int | None = None
    #: Where in the whole clip the frames at hand come from, if they are not simply all of it.
    frames_indices: Sequence[int] | None = None
    #: Seconds at which each frame of the whole clip is shown, where the rate varies. None: evenly, `fps` a second.
    frame_times: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.total_num_frames < 1:
            raise ValueError(f"total_num_frames must be at least 1, got {self.total_num_frames}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number of frames per second, got {self.fps}")
        if self.duration is not None and not (math.isfinite(self.duration) and self.duration >= 0):
            raise ValueError(f"duration must be a number of seconds, got {self.duration}")

    @classmethod
    def of(cls, metadata: Any) -> VideoMetadata:
        """Take a record, a dict, or any object with these names (Hugging Face's own, for one).

        Keys that other readers add, like `video_backend`, are left aside.

        Raises:
            ValueError: `total_num_frames` is missing.
        """
        if isinstance(metadata, cls):
            return metadata
        # Hugging Face's own record is a Mapping that fails when asked for a key it does not have.
        read = metadata.get if isinstance(metadata, dict) else partial(getattr, metadata)
        known: dict[str, Any] = {field.name: read(field.name, None) for field in fields(cls)}
        if known["total_num_frames"] is None:
            raise ValueError(f"video metadata needs total_num_frames, got {metadata!r}")
        return cls(**known)

    def times_of(self, indices: Sequence[int]) -> list[float] | None:
        """Return the seconds at which these frames are shown, or None if neither times nor a rate are known."""
        if self.frame_times is not None:
            return [self.frame_times[index] for index in indices]
        return None if self.fps is None else [index / self.fps for index in indices]

    def times_of_given(self, chosen: Sequence[int], count: int) -> list[float] | None:
        """Return the seconds at which these of `count` frames at hand are shown, or None if that is not known.

        Raises:
            ValueError: `frames_indices` speaks of another number of frames.
        """
        if self.frames_indices is None:
            return self.times_of(chosen) if self.total_num_frames == count else None
        if len(self.frames_indices) != count:
            raise ValueError(f"frames_indices names {len(self.frames_indices)} frames and the clip has {count}")
        return self.times_of([int(self.frames_indices[index]) for index in chosen])


def list_metadata(metadata: Any, count: int) -> list[VideoMetadata | None]:
    """Take none, one, or a list with one for each of `count` clips, nested or not.

    Raises:
        ValueError: there are more or fewer than clips.
    """
    if metadata is None:
        return [None] * count
    listed = list(_flattened(metadata))
    if len(listed) != count:
        raise ValueError(f"{count} videos came with {len(listed)} video_metadata: pass one for each")
    return [None if item is None else VideoMetadata.of(item) for item in listed]


def _flattened(metadata: Any) -> Iterator[Any]:
    if isinstance(metadata, (list, tuple)):
        for item in metadata:
            yield from _flattened(item)
    else:
        yield metadata


def sample_frames(
    metadata: VideoMetadata,
    *,
    sampler: Sampler,
    fps: float = 2.0,
    max_duration: float = 300.0,
    temporal_patch_size: int = 2,
) -> list[int]:
    """Return the indices of the frames that a processor looks at, an even number of them.

    `fps` (frames a second) does not steer "glm46v", which chooses its own rate, and `max_duration` (seconds) only
    "glm4v".

    Raises:
        ValueError: the clip's own frame rate is unknown, or the sampler is.
    """
    if metadata.fps is None:
        raise ValueError(
            "sampling frames needs the clip's fps: pass video_metadata={'fps': ..., 'total_num_frames': ...}"
        )
    clip = _Clip(metadata.total_num_frames, metadata.fps, metadata.duration)
    if sampler == "glm4v":
        indices = _sample_glm4v(clip, fps, max_duration)
    elif sampler == "glm46v":
        indices = _sample_glm46v(clip, temporal_patch_size)
    elif sampler == "glm5_next":
        indices = _sample_spread(clip, min(int(clip.duration * fps), _GLM5_NEXT_MAX_FRAMES), 1 / fps)
    else:
        raise ValueError(f"unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    return fill_up(list(dict.fromkeys(indices)), 2)


def fill_up(indices: list[int], multiple: int) -> list[int]:
    """Repeat the last index until the count is a multiple of `multiple`: a temporal patch is never half empty."""
    return indices + [indices[-1]] * (-len(indices) % multiple)


def thin(indices: Sequence[int], max_frames: int) -> list[int]:
    """Keep at most `max_frames` of the distinct indices, evenly spread, the first and the last among them."""
    distinct = list(dict.fromkeys(indices))
    if len(distinct) <= max_frames:
        return distinct
    return [distinct[round(position)] for position in np.linspace(0, len(distinct) - 1, max_frames).tolist()]


def patch_timestamps(frame_times: Sequence[float], *, grid_t: int, temporal_patch_size: int) -> list[float]:
    """Return when each of `grid_t` temporal patches is shown, in seconds: the time of its first frame."""
    times = list(frame_times[::temporal_patch_size])[:grid_t]
    return times + [times[-1]] * (grid_t - len(times))


@dataclass(frozen=True)
class _Clip:
    frames: int
    fps: float
    stated_duration: float | None

    @property
    def last(self) -> int:
        return self.frames - 1

    @property
    def duration(self) -> float:
        # A stated duration of zero is as good as none: some containers write it for want of a better one.
        return self.stated_duration or round(self.last / self.fps) + 1


def _sample_glm4v(clip: _Clip, fps: float, max_duration: float) -> list[int]:
    """Frames at a fixed rate; of a clip that is too long, a fixed number spread over all of it."""
    if clip.duration <= max_duration:
        count = max(math.floor(clip.duration * fps), 1)
        return [min(clip.last, math.ceil(i * clip.fps / fps)) for i in range(count)]
    count = int(max_duration * fps)
    if count >= clip.frames:
        return list(range(clip.frames))
    return [min(clip.last, math.ceil(second * clip.fps)) for second in np.linspace(0, clip.duration, count)]


def _sample_glm46v(clip: _Clip, temporal_patch_size: int) -> list[int]:
    """Frames at a rate that falls with the clip's duration."""
    seconds = min(clip.duration, _GLM46V_RATES[-1][0])
    patches_per_second = next(rate for limit, rate in _GLM46V_RATES if seconds <= limit)
    wanted = min(int(seconds * patches_per_second * temporal_patch_size), _GLM46V_MAX_FRAMES)
    return _sample_spread(clip, wanted, 1 / (temporal_patch_size * patches_per_second))


def _sample_spread(clip: _Clip, wanted: int, step: float) -> list[int]:
    """A frame every `step` seconds, made up to the number that the clip's duration deserves."""
    # Theirs have no lower bound, and so take no frame at all of a clip shorter than one step.
    wanted = max(1, wanted)
    if clip.frames < wanted:
        return _spread(0, clip.last, wanted)
    walked = _walk(clip, step)
    if len(walked) < wanted:
        return _spread(walked[0], walked[-1], wanted)
    return walked if len(walked) == wanted else _spread(0, clip.last, wanted)


def _walk(clip: _Clip, step: float) -> list[int]:
    """The first frame at or after each multiple of `step` seconds, up to the last whole second."""
    frame_seconds = 1 / clip.fps
    indices: list[int] = []
    due = 0.0
    for index in range(clip.frames):
        if index * frame_seconds >= due:
            due += step
            indices.append(index)
            if due >= int(clip.duration):
                break
    return indices


def _spread(first: int, last: int, count: int) -> list[int]:
    return [int(index) for index in np.linspace(first, last, count, dtype=int)]
