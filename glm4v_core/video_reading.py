"""Video files to frames: in the order they are shown, upright, resized as they come."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from glm4v_core.animation_reading import AnimatedImage
from glm4v_core.image_reading import looks_like_image
from glm4v_core.media_errors import CorruptMedia, EmptyMedia
from glm4v_core.sampling import VideoMetadata
from glm4v_core.video_index import VideoIndex, open_container, read_index
from glm4v_core.video_source import ClipLimits, VideoSource


def open_video(
    path: str | Path,
    *,
    max_frames_total: int | None = None,
    max_pixels: int | None = None,
    max_duration: float | None = None,
    threads: int = 4,
) -> VideoSource:
    """Open a video file, or an animated GIF, WebP, PNG or AVIF, and count its frames without decoding them.

    Of several video streams the best is taken, as ffmpeg would: cover art never wins. Frames are numbered by
    presentation time, edit lists and rotation are applied, and frames that cannot be decoded because the recording
    began between two key frames are not counted.

    Colours are converted as PyAV's `to_ndarray("rgb24")` does, which transformers' own PyAV reader uses: by the
    matrix and range that the frame names, BT.601 and limited range where it names none.

    Args:
        path: the file.
        max_frames_total: frames in the whole clip.
        max_pixels: width times height of one frame.
        max_duration: seconds.
        threads: of the decoder; each holds a few frames.

    Raises:
        EmptyMedia: there are no bytes.
        UnsupportedMedia: this is no video, or a still image.
        NoVideoStream: it holds nothing but sound or subtitles.
        CorruptMedia: it is damaged or cut short.
        TooManyFrames, TooManyPixels, TooLong: it is more than the limits allow.
        OSError: the file itself cannot be opened.
    """
    limits = ClipLimits(max_frames_total=max_frames_total, max_pixels=max_pixels, max_duration=max_duration)
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(16)
        if not head:
            raise EmptyMedia("the file is empty: 0 bytes")
        if looks_like_image(head):
            return AnimatedImage(head + file.read(), limits)
    return VideoFile(path, read_index(path, head, limits), limits, threads)


class VideoFile(VideoSource):
    """A video file decoded by PyAV."""

    def __init__(self, path: Path, index: VideoIndex, limits: ClipLimits, threads: int) -> None:
        self._path = path
        self._index = index
        self._limits = limits
        self._threads = threads
        # The size in the header is not to be relied on, and the rotation comes with the frames.
        with open_container(path) as container, closing(self._numbered(container, [0])) as frames:
            _, first = next(frames, (0, None))
            if first is None:
                raise CorruptMedia(f"not one of {index.count} frames of the video can be decoded")
            self._turn = _turn_of(first)
            lies_on_its_side = self._turn.quarters % 2
            self.width, self.height = (first.width, first.height)[:: -1 if lies_on_its_side else 1]
        self.metadata = VideoMetadata(
            total_num_frames=index.count,
            fps=index.fps,
            duration=index.count / index.fps if index.fps else None,
            width=self.width,
            height=self.height,
            frame_times=index.frame_times,
        )

    def close(self) -> None:
        """Nothing is held between two readings: each opens the file for itself."""

    def _decode(self, indices: list[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        wanted = deque(indices)
        with open_container(self._path) as container, closing(self._numbered(container, indices)) as frames:
            for number, frame in frames:
                if number > wanted[0]:
                    raise CorruptMedia(f"frame {wanted[0]} of {self._index.count} is missing: the video is damaged")
                if number == wanted[0]:
                    self._limits.check_pixels(frame.width, frame.height)
                    yield wanted.popleft(), self._upright(frame)
                if not wanted:
                    return
        raise CorruptMedia(f"frame {wanted[0]} of {self._index.count} is missing: the video is cut short")

    def _numbered(self, container: InputContainer, wanted: list[int]) -> Generator[tuple[int, VideoFrame]]:
        """Decode these frames, and what they cannot be decoded without, each with its place in the order of showing."""
        pts = self._index.pts
        number = -1
        for frame in self._decoded(container, wanted):
            if pts is None or frame.pts is None:
                number += 1
            elif frame.pts < pts[0]:
                continue
            else:
                number = max(number + 1, bisect_left(pts, frame.pts))
            if frame.is_corrupt:
                raise CorruptMedia(f"frame {number} of {self._index.count} is damaged")
            yield number, frame

    def _decoded(self, container: InputContainer, wanted: list[int]) -> Iterator[VideoFrame]:
        stream = container.streams.video[self._index.video_stream]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = self._threads
        if self._limits.max_pixels is not None:
            # A stream may change its size on the way: the decoder then refuses before it allocates.
            stream.codec_context.options = {"max_pixels": str(self._limits.max_pixels)}
        try:
            for packet in _chosen(container.demux(stream), deque(self._index.packets_for(wanted))):
                yield from packet.decode()
            yield from stream.decode(None)
        except av.FFmpegError as error:
            raise CorruptMedia(f"the video is damaged: it cannot be decoded to its end ({error.strerror})") from error

    def _upright(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        if self._turn.is_mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(np.rot90(pixels, -self._turn.quarters))


def _chosen(packets: Iterator[Packet[VideoStream]], ranges: deque[range]) -> Iterator[Packet[VideoStream]]:
    """The packets whose numbers are in these ascending ranges; nothing is read beyond the last."""
    for number, packet in enumerate(packet for packet in packets if packet.size):
        if number >= ranges[0].stop:
            ranges.popleft()
        if not ranges:
            return
        if number in ranges[0]:
            yield packet


@dataclass(frozen=True)
class _Turn:
    """What makes a frame upright: first the mirror, then quarter turns clockwise."""

    is_mirrored: bool = False
    quarters: int = 0


def _turn_of(frame: VideoFrame) -> _Turn:
    # Asked of one frame only: a frame whose side data has been looked at is freed late, when cycles are collected.
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Turn()
    # Rows of three fixed-point numbers, applied to (x, y, 1) from the right; y points down.
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(matrix), dtype=np.int32).reshape(3, 3).tolist()
    is_mirrored = a * d < b * c
    if is_mirrored:
        a, b = -a, -b
    return _Turn(is_mirrored, round(math.atan2(b, a) / (math.pi / 2)) % 4)
