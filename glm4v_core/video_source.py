"""What can be asked of a clip, whichever library decodes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glm4v_core.media_errors import TooLong, TooManyFrames, TooManyPixels
from glm4v_core.pixels import resize_frame
from glm4v_core.sampling import VideoMetadata


@dataclass(frozen=True, kw_only=True)
class ClipLimits:
    """What a clip may cost; None is no limit."""

    max_frames_total: int | None = None
    #: Width times height of one frame.
    max_pixels: int | None = None
    #: Seconds.
    max_duration: float | None = None

    def check_frames(self, count: int) -> None:
        if self.max_frames_total is not None and count > self.max_frames_total:
            raise TooManyFrames(f"the clip has more than {self.max_frames_total} frames")

    def check_pixels(self, width: int, height: int) -> None:
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise TooManyPixels(f"its frames have {width}x{height} pixels, more than {self.max_pixels} in all")

    def check_duration(self, seconds: float) -> None:
        if self.max_duration is not None and seconds > self.max_duration:
            raise TooLong(f"the clip lasts {seconds:.1f} s, more than {self.max_duration:g} s")


class VideoSource(ABC):
    """An opened clip: what it is, and its frames on demand. Use it in a `with` statement."""

    #: Of the whole clip, counted frame by frame and not taken from a header.
    metadata: VideoMetadata
    #: Pixels of a frame as it is shown, after any rotation.
    height: int
    width: int

    @property
    def timestamps(self) -> list[float]:
        """Seconds from the first frame's showing to each frame's, in order; index / fps where the rate is constant."""
        times = self.metadata.times_of(range(self.metadata.total_num_frames))
        if times is None:
            raise ValueError("the clip states neither times nor a frame rate")
        return times

    def frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[Tensor]:
        """Yield the frames with these indices, in ascending order, as uint8 RGB (3, H, W).

        The clip is decoded once, up to the last of them, and each frame is resized to `size` (height, width) as it
        comes. An index given twice yields its frame twice.

        Raises:
            ValueError: the indices do not ascend, or are not all in the clip.
            CorruptMedia: a frame on the way is damaged or missing.
        """
        _check_indices(indices, self.metadata.total_num_frames)
        repeats = Counter(indices)
        for index, pixels in self._decode(sorted(repeats)) if repeats else ():
            frame = torch.from_numpy(pixels).permute(2, 0, 1)
            if size is not None:
                frame = resize_frame(frame, *size)
            for _ in range(repeats[index]):
                yield frame

    @abstractmethod
    def _decode(self, indices: list[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (index, RGB pixels of shape (H, W, 3), writable) for each of these ascending, distinct indices."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_rate(times: Sequence[float], duration: float, rates: Sequence[float]) -> tuple[float, list[float] | None]:
    """Return a clip's frames per second, and its frame times in seconds if the rate is not constant.

    A rate is constant if no frame is shown more than half a frame away from index / rate: containers round their
    timestamps, and some cameras tremble. The first of `rates` for which this holds is taken; with none of them the
    rate is the average over `duration`.
    """
    shown = np.asarray(times)
    for rate in rates:
        if np.abs(shown - np.arange(len(shown)) / rate).max() < 0.5 / rate:
            return rate, None
    return len(times) / duration, list(times)


def _check_indices(indices: Sequence[int], count: int) -> None:
    if any(later < earlier for earlier, later in pairwise(indices)):
        raise ValueError("frame indices must ascend: a clip is decoded once, from its start")
    if indices and (indices[0] < 0 or indices[-1] >= count):
        raise ValueError(f"frame indices {indices[0]}..{indices[-1]} are not all within the clip's {count} frames")
