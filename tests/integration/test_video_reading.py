"""Clips rendered by the tests, and real ones, read back frame by frame."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvF

from glm4v_core.media_errors import (
    CorruptMedia,
)
from glm4v_core.processing import Glm4vVideoProcessor
from glm4v_core.sampling import SAMPLERS, Sampler
from glm4v_core.video_reading import open_video
from tests.clips import (
    B_FRAMES,
    CLIPS,
    NumberedClips,
    numbered_frame,
    packet_places,
    read_number,
    remux,
    write_clip,
    write_numbered_clip,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> NumberedClips:
    return NumberedClips(tmp_path_factory.mktemp("clips"))


def numbers(path: Path, indices: list[int]) -> list[int]:
    with open_video(path) as source:
        return [read_number(frame) for frame in source.frames(indices)]


# The right frames


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_counted_and_found(clip: NumberedClips, name: str) -> None:
    with open_video(clip(name)) as source:
        assert source.metadata.total_num_frames == 90
        assert source.metadata.fps == 30
        assert source.metadata.duration == pytest.approx(3.0)
        assert (source.width, source.height) == (192, 96)
        assert source.timestamps == [index / 30 for index in range(90)]
        assert [read_number(frame) for frame in source.frames(range(90))] == list(range(90))


@pytest.mark.parametrize("name", ["h264.mp4", "open_gop.ts", "vp9.webm", "elementary.h264"])
@pytest.mark.parametrize("indices", [[0], [89], [13, 14, 40, 40, 77], [11, 12, 13], []])
def test_chosen_frames_are_the_ones_of_a_full_reading(clip: NumberedClips, name: str, indices: list[int]) -> None:
    with open_video(clip(name)) as source:
        every = list(source.frames(range(90)))
        chosen = list(source.frames(indices))
    assert [read_number(frame) for frame in chosen] == indices
    assert all(torch.equal(frame, every[index]) for frame, index in zip(chosen, indices, strict=True))


def test_the_number_of_threads_changes_nothing(clip: NumberedClips) -> None:
    with open_video(clip("open_gop.mp4"), threads=1) as one, open_video(clip("open_gop.mp4"), threads=8) as many:
        pairs = zip(one.frames(range(90)), many.frames(range(90)), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


SHORT_GROUPS: dict[str, dict[str, Any]] = {
    "closed.mp4": {"options": {"x264-params": "keyint=10:min-keyint=10:bframes=2"}},
    "closed.mkv": {"options": {"x264-params": "keyint=10:min-keyint=10:bframes=2"}},
    "closed.ts": {"options": {"x264-params": "keyint=10:min-keyint=10:bframes=2"}},
    "open.ts": {"options": B_FRAMES},
    "open.mkv": {"options": B_FRAMES},
    "refresh.ts": {"options": {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}},
    "refresh.mkv": {"options": {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}},
    "closed_hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=10:min-keyint=10:open-gop=0"},
    },
    "open_hevc.mkv": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=10:min-keyint=10:open-gop=1:bframes=3"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "10", "lag-in-frames": "16", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "10"}},
    "mjpeg.mkv": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg4.mkv": {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}},
}


@pytest.mark.parametrize("name", SHORT_GROUPS)
def test_frames_are_the_same_when_parts_between_them_are_not_decoded(tmp_path: Path, name: str) -> None:
    pictures = drifting_noise(60)
    path = write_clip(tmp_path / name, pictures, **SHORT_GROUPS[name])
    with open_video(path) as source:
        every = list(source.frames(range(60)))
        for indices in ([3, 47], [10], [9, 30], [29, 31, 59], [19, 20, 21], [45]):
            chosen = list(source.frames(indices))
            assert all(torch.equal(frame, every[index]) for frame, index in zip(chosen, indices, strict=True)), indices


def drifting_noise(count: int) -> list[np.ndarray]:
    """Frames that resemble one another, so that codecs do refer from one to the next."""
    random = np.random.default_rng(0)
    scene = random.integers(0, 256, (12, 40, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    grain = [random.integers(0, 12, (96, 192, 3), dtype=np.uint8) for _ in range(count)]
    return [np.ascontiguousarray(scene[:, 2 * i : 2 * i + 192] // 2 + grain[i]) for i in range(count)]


def test_a_damaged_part_without_a_wanted_frame_is_not_looked_at(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", drifting_noise(60), **SHORT_GROUPS["closed.mp4"])
    data = bytearray(path.read_bytes())
    for start, size in packet_places(path)[32:38]:
        data[start + 8 : start + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(data)
    with open_video(path) as source:
        assert len(list(source.frames([5, 25, 55]))) == 3
        with pytest.raises(CorruptMedia, match="damaged"):
            list(source.frames([35, 39]))


def test_a_frame_that_is_never_shown_is_not_counted(tmp_path: Path) -> None:
    given = write_numbered_clip(tmp_path / "given.webm", 30, codec="libvpx")
    path = tmp_path / "hidden.webm"
    with av.open(str(given)) as source, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            data = bytearray(bytes(packet))
            if number == 11:
                data[0] &= ~0x10
            copy = av.Packet(data)
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            made.mux(copy)
    assert numbers(path, list(range(29))) == [number for number in range(30) if number != 11]


@pytest.mark.parametrize("rate", [24, 25, Fraction(30000, 1001)])
def test_the_frame_rate_is_the_clips(tmp_path: Path, rate: Fraction | int) -> None:
    path = write_numbered_clip(tmp_path / "clip.mkv", 48, fps=rate)
    with open_video(path) as source:
        assert source.metadata.fps == pytest.approx(float(rate), rel=1e-6)
        assert source.metadata.frame_times is None


def test_a_variable_rate_has_the_times_at_which_frames_are_shown(tmp_path: Path) -> None:
    pts = [number * 40 + (number // 10) * 300 for number in range(40)]
    path = write_numbered_clip(tmp_path / "clip.mp4", 40, pts=pts)
    with open_video(path) as source:
        assert source.metadata.total_num_frames == 40
        assert source.timestamps == pytest.approx([time / 1000 for time in pts], abs=1e-3)
        assert [read_number(frame) for frame in source.frames(range(40))] == list(range(40))
    features = Glm4vVideoProcessor()(path)
    assert set(features.timestamps[0]) <= set(source.timestamps)


def test_a_first_timestamp_other_than_zero_is_no_frame(clip: NumberedClips, tmp_path: Path) -> None:
    late = remux(clip("h264.mp4"), tmp_path / "late.mp4", shift=15360 * 7)
    with open_video(late) as source:
        assert source.timestamps[0] == 0
        assert source.metadata.duration == pytest.approx(3.0)
    assert numbers(late, [0, 50]) == [0, 50]


def test_an_edit_list_is_obeyed(clip: NumberedClips, tmp_path: Path) -> None:
    # Packets from before time zero are kept for decoding, and an edit list hides them.
    cut = remux(clip("h264.mp4"), tmp_path / "cut.mp4", shift=-15 * 512, options={"avoid_negative_ts": "disabled"})
    with open_video(cut) as source:
        assert source.metadata.total_num_frames == 75
        assert [read_number(frame) for frame in source.frames(range(75))] == list(range(15, 90))


def test_a_recording_that_begins_between_key_frames_begins_at_the_next(clip: NumberedClips, tmp_path: Path) -> None:
    whole = clip("open_gop.ts").read_bytes()
    tail = tmp_path / "tail.ts"
    tail.write_bytes(whole[188 * 40 :])
    with open_video(tail) as source:
        found = [read_number(frame) for frame in source.frames(range(source.metadata.total_num_frames))]
    assert found == list(range(found[0], 90))
    assert 0 < found[0] < 60


@pytest.mark.parametrize("degrees", [90, 180, 270, -90])
def test_rotation_is_applied_to_every_frame(tmp_path: Path, degrees: int) -> None:
    frames = [np.rot90(numbered_frame(number), -degrees // 90) for number in range(5)]
    path = write_clip(tmp_path / "turned.mp4", map(np.ascontiguousarray, frames), rotation=degrees)
    with open_video(path) as source:
        assert (source.width, source.height) == (source.metadata.width, source.metadata.height) == (192, 96)
        assert [read_number(frame) for frame in source.frames(range(5))] == [0, 1, 2, 3, 4]


def test_a_mirrored_recording_is_mirrored_back(tmp_path: Path) -> None:
    mirrored = [np.ascontiguousarray(numbered_frame(number)[:, ::-1]) for number in range(3)]
    path = write_clip(tmp_path / "mirrored.mp4", mirrored, mirrored=True)
    assert numbers(path, [0, 1, 2]) == [0, 1, 2]


def test_the_best_of_several_video_streams_is_read(media_dir: Path) -> None:
    with open_video(media_dir / "nasa_13013.mp4") as source:
        assert (source.width, source.height) == (480, 270)
        assert source.metadata.total_num_frames == 390


def test_cover_art_is_no_video(clip: NumberedClips, tmp_path: Path) -> None:
    path = tmp_path / "covered.mp4"
    cover = BytesIO()
    Image.new("RGB", (1200, 1200), (255, 0, 0)).save(cover, "JPEG")
    with av.open(str(clip("h264.mp4"))) as given, av.open(str(path), "w") as made:
        art = made.add_stream("mjpeg")
        art.width = art.height = 1200
        art.pix_fmt = "yuvj444p"
        art.disposition = av.stream.Disposition.attached_pic
        stream = made.add_stream_from_template(given.streams.video[0])
        picture = av.Packet(cover.getvalue())
        picture.stream, picture.pts, picture.dts, picture.time_base = art, 0, 0, Fraction(1, 90000)
        made.mux(picture)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    assert numbers(path, [0, 89]) == [0, 89]


# The right pixels


def test_frames_are_resized_as_the_stacked_clip_would_be(media_dir: Path) -> None:
    with open_video(media_dir / "cockatoo.mp4") as source:
        indices = [0, 3, 100, 279]
        whole = torch.stack(list(source.frames(indices)))
        as_they_come = torch.stack(list(source.frames(indices, size=(196, 336))))
    stacked = tvF.resize(whole.contiguous(), [196, 336], tvF.InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(as_they_come, stacked)


@pytest.mark.parametrize("name", ["cockatoo.mp4", "realshort.mp4", "nasa_13013.mp4"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_path_gives_what_its_decoded_frames_give(media_dir: Path, name: str, sampler: Sampler) -> None:
    path = media_dir / name
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        rgb = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        rate = float(stream.average_rate)
    metadata = {"total_num_frames": len(rgb), "fps": rate, "duration": len(rgb) / rate}
    processor = Glm4vVideoProcessor(sampler=sampler, max_pixels=28 * 28 * 60)
    from_array = processor(np.stack(rgb), video_metadata=metadata)
    from_path = processor(str(path))
    assert torch.equal(from_path.pixel_values_videos, from_array.pixel_values_videos)
    assert torch.equal(from_path.video_grid_thw, from_array.video_grid_thw)
    assert from_path.timestamps == from_array.timestamps


def test_paths_and_arrays_may_be_mixed(clip: NumberedClips) -> None:
    features = Glm4vVideoProcessor()(
        [clip("h264.mp4"), np.zeros((4, 60, 80, 3), dtype=np.uint8)],
        video_metadata=[None, {"total_num_frames": 4, "fps": 2, "duration": 2}],
    )
    assert features.video_grid_thw[:, 0].tolist() == [3, 2]
