"""Which frames a video file holds and when each is shown, found by reading its packets without decoding them."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from glm4v_core.decoding_groups import DecodingGroup, resets_decoder, split_groups
from glm4v_core.media_errors import CorruptMedia, NoVideoStream, UnsupportedMedia
from glm4v_core.video_source import ClipLimits, frame_rate

# Readers of these containers open what the file itself names, and nothing else: playlists (HLS, DASH, concat) are left
# out because a clip must not make us read other files or fetch from the network.
_CONTAINERS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "ivf", "mxf", "nut", "obu",
    "h264", "hevc", "m4v", "vc1", "dv", "yuv4mpegpipe",
)  # fmt: skip
_SIGNATURES = (
    b"\x1aE\xdf\xa3",
    b"RIFF",
    b"OggS",
    b"FLV",
    b"0&\xb2u",
    b"\x00\x00\x01",
    b"\x00\x00\x00\x01",
    b"DKIF",
    b"G@",
)
_MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
#: Seconds by which a header may promise more than the packets hold: the last packet's duration is often unknown.
_HEADER_SLACK = 1.0


@dataclass(frozen=True)
class VideoIndex:
    """The frames of one video stream, in the order in which they are shown."""

    #: Place among the container's video streams.
    video_stream: int
    count: int
    #: Each frame's presentation timestamp in the stream's own units, ascending; None where the stream has none.
    pts: list[int] | None
    #: Parts that can be decoded without the others, in file order.
    groups: list[DecodingGroup]
    fps: float | None
    #: Seconds from the first frame at which each is shown; None where that is index / fps.
    frame_times: list[float] | None

    def packets_for(self, numbers: Iterable[int]) -> list[range]:
        """Return the packets, by their numbers in file order, that have to be decoded for these frames."""
        starts = [group.first_pts for group in self.groups]
        needed = {0} if self.pts is None else {bisect_right(starts, self.pts[number]) - 1 for number in numbers}
        ends = [group.first_packet for group in self.groups[1:]] + [sys.maxsize]
        return [range(self.groups[place].first_packet, ends[place]) for place in sorted(needed)]


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    #: True where decoding may begin and the frames be the same.
    is_reset: bool
    #: False for what is decoded only so that others can be: before the start of an edit list, or hidden by the codec.
    is_shown: bool


def read_index(path: Path, head: bytes, limits: ClipLimits) -> VideoIndex:
    """Read every packet's timestamps; `head` is the file's first bytes.

    Raises:
        UnsupportedMedia: the file is no video in a container that is read.
        NoVideoStream: it holds nothing but sound or subtitles.
        CorruptMedia: it is damaged or cut short.
        MediaLimitExceeded: it is more than the limits allow.
    """
    try:
        with open_container(path) as container:
            stream = _best_video_stream(container)
            limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
            index = _index(stream, _read_packets(container, stream, limits))
    except av.FFmpegError as error:
        raise _unreadable(head) from error
    limits.check_duration(index.count / index.fps if index.fps else 0)
    return index


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open a file by a reader that will not open another."""
    # "file:" because a name such as "http:clip.mp4" is to be a name and no address.
    with av.open(f"file:{path}", options={"format_whitelist": ",".join(_CONTAINERS)}) as container:
        yield container


def _best_video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if isinstance(stream, VideoStream):
        return stream
    if container.streams.audio or container.streams.subtitles:
        raise NoVideoStream("the file holds sound or subtitles but no video")
    raise CorruptMedia("the video is damaged or cut short: the list of its streams is missing")


def _read_packets(container: InputContainer, stream: VideoStream, limits: ClipLimits) -> list[_Packet]:
    """Read the stream to the end, and make sure that it is the end."""
    packets: list[_Packet] = []
    started = False
    read_until = 0.0
    # Matroska states how long the longest of its streams lasts, so all of them are watched.
    stated_end = (container.duration or 0) / av.time_base if "matroska" in container.format.name else 0.0
    for packet in container.demux(list(container.streams) if stated_end else stream):
        if not packet.size:
            continue
        if packet.pts is not None and packet.time_base is not None:
            read_until = max(read_until, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        started = started or packet.is_keyframe
        if packet.is_corrupt and started:
            raise _cut_short(stream, len(packets), stated_end)
        packets.append(_packet(packet, stream.codec_context))
        limits.check_frames(len(packets))
    if read_until < stated_end - _HEADER_SLACK or len(packets) < _entries(container, stream):
        raise _cut_short(stream, len(packets), stated_end)
    return packets


def _packet(packet: Packet[Any], context: VideoCodecContext) -> _Packet:
    # VP8 keeps frames that are only referred to in packets of their own; bit 4 of the first byte says "show".
    hidden = context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return _Packet(
        pts=packet.pts,
        dts=packet.dts,
        duration=packet.duration or 0,
        is_keyframe=packet.is_keyframe,
        is_reset=resets_decoder(packet, context.name, context.extradata),
        is_shown=not (packet.is_discard or hidden),
    )


def _index(stream: VideoStream, packets: list[_Packet]) -> VideoIndex:
    """Put frames in the order in which they are shown, less those of a recording that began between key frames."""
    place = stream.container.streams.video.index(stream)
    start = next((number for number, packet in enumerate(packets) if packet.is_keyframe), 0)
    shown = [packet for packet in packets[start:] if packet.is_shown]
    if not shown:
        raise CorruptMedia("the video stream holds no frames")
    pts = [packet.pts for packet in packets if packet.pts is not None]
    # AVI has no presentation times: what its reader gives for them is the order in the file.
    if stream.container.format.name == "avi" or len(pts) < len(packets):
        # An elementary stream has no times at all, and only the rate guessed from its headers is its own.
        rate = stream.guessed_rate if all(packet.dts is None for packet in shown) else stream.average_rate
        return VideoIndex(place, len(shown), None, [DecodingGroup(start, 0, 0)], float(rate) if rate else None, None)
    groups = split_groups([number == start or packet.is_reset for number, packet in enumerate(packets)], pts)
    # What is shown before the first key frame although it comes after it refers to frames that are not there.
    timed = sorted(
        (packet.pts, packet.duration) for packet in shown if packet.pts is not None and packet.pts >= pts[start]
    )
    times = [time for time, _ in timed]
    return VideoIndex(place, len(times), times, groups, *_rate(stream, times, last_duration=timed[-1][1]))


def _rate(stream: VideoStream, pts: list[int], *, last_duration: int) -> tuple[float | None, list[float] | None]:
    unit = stream.time_base or Fraction(1, av.time_base)
    duration = float((pts[-1] - pts[0] + last_duration) * unit)
    rates = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    if duration <= 0:
        if len(pts) > 1:
            raise CorruptMedia(f"all {len(pts)} frames of the video are said to be shown at once")
        return rates[0] if rates else None, None
    return frame_rate([float((time - pts[0]) * unit) for time in pts], duration, rates)


def _entries(container: InputContainer, stream: VideoStream) -> int:
    """How many packets an MP4's index promises; other containers' indices name key frames only."""
    return len(stream.index_entries) if "mov" in container.format.name else 0


def _cut_short(stream: VideoStream, whole: int, stated_end: float) -> CorruptMedia:
    promised = stream.frames or round(stated_end * float(stream.average_rate or 0))
    return CorruptMedia(
        f"the video is damaged or cut short: {whole} of {promised or 'an unknown number of'} frames are whole"
    )


def _unreadable(head: bytes) -> CorruptMedia | UnsupportedMedia:
    if head.startswith(_SIGNATURES) or head[4:8] in _MOV_ATOMS:
        return CorruptMedia("the video is damaged or cut short: its container cannot be read")
    return UnsupportedMedia(
        "this is not a video in a container that is read (MP4, MOV, Matroska, WebM, AVI, MPEG-TS, ...)"
    )
