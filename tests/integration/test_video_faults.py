"""Clips that are damaged, cut short, too large or no clips at all, and readings that make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glm4v_core.media_errors import (
    CorruptMedia,
    EmptyMedia,
    NoVideoStream,
    TooLong,
    TooManyFrames,
    TooManyPixels,
    UnsupportedMedia,
)
from glm4v_core.video_reading import open_video
from tests.clips import (
    CLIPS,
    NumberedClips,
    packet_places,
    read_number,
    remux,
    write_animation,
    write_clip,
    write_sound_only,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> NumberedClips:
    return NumberedClips(tmp_path_factory.mktemp("clips"))


def test_a_file_with_sound_only_has_no_video_stream(tmp_path: Path) -> None:
    with pytest.raises(NoVideoStream, match="no video"):
        open_video(write_sound_only(tmp_path / "song.mp4"))


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "mpeg4.avi", "front_index.mp4"])
def test_a_clip_cut_short_says_how_much_is_left(clip: NumberedClips, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source = clip("h264.mp4" if name == "front_index.mp4" else name)
    if name == "front_index.mp4":
        source = remux(source, tmp_path / "whole.mp4", options={"movflags": "faststart"})
    path.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    with pytest.raises(CorruptMedia, match=r"\d+ of 90 frames are whole"):
        open_video(path)


def test_a_clip_that_lost_its_index_is_corrupt(clip: NumberedClips, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip("h264.mp4").read_bytes()[:2500])
    with pytest.raises(CorruptMedia, match="cut short"):
        open_video(path)


@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "mpeg4.avi"])
def test_a_damaged_packet_in_the_middle_is_an_error(clip: NumberedClips, tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / name, noisy_frames(30), **CLIPS[name])
    data = bytearray(source.read_bytes())
    for start, size in packet_places(source)[12:16]:
        data[start + 16 : start + size] = np.random.default_rng(0).bytes(size - 16)
    source.write_bytes(data)
    with pytest.raises(CorruptMedia, match="damaged"), open_video(source) as opened:
        list(opened.frames(range(opened.metadata.total_num_frames)))


def noisy_frames(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (96, 192, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyMedia),
        (b"buy milk and eggs, and do not forget the bread", UnsupportedMedia),
        (b"\x1aE\xdf\xa3" + bytes(60), CorruptMedia),
        (b"\x00\x00\x00\x18ftypisom" + bytes(60), CorruptMedia),
    ],
)
def test_what_is_no_video_is_told_from_what_is_damaged(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(error):
        open_video(path)


@pytest.mark.parametrize("playlist", ["#EXTM3U\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"])
def test_a_playlist_cannot_make_us_read_another_file(clip: NumberedClips, tmp_path: Path, playlist: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text(playlist.format(clip("h264.ts")))
    with pytest.raises(UnsupportedMedia):
        open_video(path)


def test_a_name_like_an_address_is_a_name(clip: NumberedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:clip.mp4").write_bytes(clip("h264.mp4").read_bytes())
    with open_video(Path("http:clip.mp4")) as source:
        assert [read_number(frame) for frame in source.frames([7])] == [7]


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_video(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["h264.mp4", "animation.gif"])
@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_frames_total": 11}, TooManyFrames),
        ({"max_pixels": 192 * 96 - 1}, TooManyPixels),
        ({"max_duration": 0.4}, TooLong),
    ],
)
def test_limits_have_errors_of_their_own(
    clip: NumberedClips, tmp_path: Path, name: str, limits: dict[str, Any], error: type[Exception]
) -> None:
    path = write_animation(tmp_path / name, duration=40) if name.endswith(".gif") else clip(name)
    with pytest.raises(error):
        open_video(path, **limits)


def test_limits_that_are_met_change_nothing(clip: NumberedClips) -> None:
    with open_video(clip("h264.mp4"), max_frames_total=90, max_pixels=192 * 96, max_duration=3.0) as source:
        assert source.metadata.total_num_frames == 90


@pytest.mark.parametrize("indices", [[1, 0], [-1], [90], [0, 90]])
def test_frames_that_cannot_be_read_in_one_pass_are_refused(clip: NumberedClips, indices: list[int]) -> None:
    with open_video(clip("h264.mp4")) as source, pytest.raises(ValueError, match="frame indices"):
        list(source.frames(indices))


def test_a_reading_that_is_given_up_leaves_nothing_open(clip: NumberedClips) -> None:
    with open_video(clip("h264.mp4")) as source:
        frames = source.frames(range(90))
        next(frames)
        frames.close()  # type: ignore[attr-defined]
        assert [read_number(frame) for frame in source.frames([3])] == [3]
