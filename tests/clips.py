"""Clips rendered for the tests: every frame carries its own number in black and white bars, so it can be told apart."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Frame = npt.NDArray[np.uint8]

_BITS = 12


def numbered_frame(number: int, *, width: int = 192, height: int = 96) -> Frame:
    """A grey RGB frame (height, width, 3) whose bars spell `number`, most significant bit first."""
    frame = np.full((height, width, 3), 96, dtype=np.uint8)
    bar = width // _BITS
    for bit in range(_BITS):
        frame[height // 4 : height // 2, bit * bar : (bit + 1) * bar] = 235 if number >> (_BITS - 1 - bit) & 1 else 16
    return frame


def read_number(frame: Any) -> int:
    """The number that an RGB frame (3, H, W) spells, at whatever size and after whatever codec."""
    pixels = np.asarray(frame)
    height, width = pixels.shape[-2:]
    line = pixels[:, int(height * 0.375), :].mean(axis=0)
    centres = [int((bit + 0.5) * width / _BITS) for bit in range(_BITS)]
    return int("".join("1" if line[centre] > 128 else "0" for centre in centres), 2)


def write_clip(
    path: Path,
    frames: Iterable[Frame],
    *,
    fps: float | Fraction = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    pts: list[int] | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    with_audio: bool = False,
) -> Path:
    """Encode frames into `path`. `pts` are presentation times in milliseconds, for a clip of variable rate."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pix_fmt
        time_base = Fraction(1, 1000) if pts else 1 / rate
        stream.codec_context.time_base = time_base
        frames = iter(frames)
        first = next(frames)
        stream.height, stream.width = first.shape[:2]
        if rotation is not None or mirrored:
            stream.set_display_rotation(rotation or 0, hflip=mirrored)
        sound = _add_sound(container) if with_audio else None
        for number, pixels in enumerate(chain([first], frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = pts[number] if pts else number
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def write_numbered_clip(path: Path, count: int, *, width: int = 192, height: int = 96, **settings: Any) -> Path:
    """Encode `count` numbered frames into `path`; settings as of `write_clip`."""
    return write_clip(path, (numbered_frame(i, width=width, height=height) for i in range(count)), **settings)


def remux(source: Path, target: Path, *, shift: int = 0, options: dict[str, str] | None = None) -> Path:
    """Copy the packets of a clip into another container, `shift` of its time units later, without encoding again."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options or {}) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                made.mux(packet)
    return target


def write_sound_only(path: Path) -> Path:
    """An audio file in a container that could hold video."""
    with av.open(str(path), "w") as container:
        stream = _add_sound(container)
        container.mux(stream.encode(None))
    return path


def _add_sound(container: Any) -> Any:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for number in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts = number * 1024
        container.mux(stream.encode(frame))
    return stream


B_FRAMES = {"x264-params": "bframes=3:keyint=12:min-keyint=12:open-gop=1"}

#: Container and codec of 90 frames at 30 a second.
CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264.mov": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264.mkv": {},
    "no_duration.mkv": {"container_options": {"live": "1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "quality": "realtime"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "h264.avi": {},
    "h264.ts": {},
    "h264.flv": {},
    "elementary.h264": {},
    "open_gop.mp4": {"options": B_FRAMES},
    "open_gop.ts": {"options": B_FRAMES},
    "with_sound.mp4": {"with_audio": True},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "full_chroma.mkv": {"pix_fmt": "yuv444p"},
}


class NumberedClips:
    """Clips of CLIPS, each written when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, name: str) -> Path:
        path = self._directory / name
        return path if path.exists() else write_numbered_clip(path, 90, **CLIPS[name])


def write_animation(path: Path, **options: Any) -> Path:
    frames = [Image.fromarray(numbered_frame(number)) for number in range(12)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
