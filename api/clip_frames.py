"""Frames of a clip for people to look at: near enough in time, and found without torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: Pixels of a frame's longer side.
_EDGE = 360


class NotShown(Exception):  # noqa: N818 - a picture without it is drawn instead
    """The clip cannot be shown; the message says why."""


def read_frames(clip: Path, seconds: Sequence[float], *, max_pixels: int, patience: float) -> list[Image.Image]:
    """The frames that are shown at these times, which ascend.

    Args:
        max_pixels: of one frame.
        patience: seconds for all of them.

    Raises:
        NotShown: no decoder is installed, or it does not understand the clip or takes too long.
    """
    try:
        # An API that only talks to servers has no decoder.
        import av
    except ImportError as error:
        raise NotShown("PyAV is not installed") from error
    deadline = time.monotonic() + patience
    try:
        with av.open(str(clip)) as container:
            stream = _video_stream(container, max_pixels)
            return [_frame_at(container, stream, moment, deadline) for moment in seconds]
    except (av.FFmpegError, ValueError) as error:
        raise NotShown(f"the decoder says: {error}") from error


def _video_stream(container: InputContainer, max_pixels: int) -> VideoStream:
    if not container.streams.video:
        raise NotShown("it has no video stream")
    stream = container.streams.video[0]
    if stream.width * stream.height > max_pixels:
        raise NotShown(f"its frames have {stream.width}x{stream.height} pixels")
    stream.codec_context.thread_count = 1
    # A stream may change its size on the way: the decoder then refuses before it allocates.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return stream


def _frame_at(container: InputContainer, stream: VideoStream, moment: float, deadline: float) -> Image.Image:
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    container.seek(int((start + moment) * 1_000_000), backward=True)
    shown: VideoFrame | None = None
    for frame in container.decode(stream):
        if time.monotonic() > deadline:
            raise NotShown("decoding takes too long")
        if shown is not None and frame.time is not None and frame.time > start + moment + 0.001:
            break
        shown = frame
    if shown is None:
        raise NotShown(f"it has no frame at {moment:g} s")
    picture = Image.fromarray(shown.to_ndarray(format="rgb24"))
    picture.thumbnail((_EDGE, _EDGE))
    # The container says by how much its frames are to be turned, against the clock.
    return picture.rotate(shown.rotation, expand=True)
