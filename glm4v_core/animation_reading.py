"""Animated GIF, WebP, PNG and AVIF files as clips."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from PIL import Image

from glm4v_core.image_reading import MAX_IMAGE_PIXELS, decoding_errors, open_image
from glm4v_core.media_errors import UnsupportedMedia
from glm4v_core.pixels import rgb_image
from glm4v_core.sampling import VideoMetadata
from glm4v_core.video_source import ClipLimits, VideoSource, frame_rate

# Browsers show frames that ask for less than 20 ms for 100 ms: files with no delay mean "as ever", not "at once".
_SHORTEST_MS = 20
_DEFAULT_MS = 100


class AnimatedImage(VideoSource):
    """An animation decoded by Pillow, its transparency laid on white as that of images is.

    Raises:
        UnsupportedMedia: the image has one frame only.
        MediaError: as `read_image`, and the limits.
    """

    def __init__(self, data: bytes, limits: ClipLimits) -> None:
        self._data = data
        with decoding_errors(), self._open(limits.max_pixels or MAX_IMAGE_PIXELS) as image:
            count = getattr(image, "n_frames", 1)
            if count == 1:
                raise UnsupportedMedia("this is a still image, not a clip: embed it as an image")
            limits.check_frames(count)
            milliseconds = [_shown_for(image, index) for index in range(count)]
            self.width, self.height = image.size
        seconds = sum(milliseconds) / 1000
        limits.check_duration(seconds)
        starts = [start / 1000 for start in accumulate(milliseconds[:-1], initial=0)]
        fps, frame_times = frame_rate(starts, seconds, [count / seconds])
        self.metadata = VideoMetadata(
            total_num_frames=count,
            fps=fps,
            duration=seconds,
            width=self.width,
            height=self.height,
            frame_times=frame_times,
        )

    def close(self) -> None:
        self._data = b""

    def _decode(self, indices: list[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        with decoding_errors(), self._open(MAX_IMAGE_PIXELS) as image:
            for index in indices:
                image.seek(index)
                yield index, np.array(rgb_image(image))

    def _open(self, max_pixels: int) -> Image.Image:
        return open_image(self._data, max_pixels=max_pixels)


def _shown_for(image: Image.Image, index: int) -> float:
    image.seek(index)
    image.load()
    milliseconds = float(image.info.get("duration", 0))
    return milliseconds if milliseconds >= _SHORTEST_MS else _DEFAULT_MS
