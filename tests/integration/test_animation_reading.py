"""Animated pictures, read as the clips they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from glm4v_core.media_errors import (
    CorruptMedia,
    UnsupportedMedia,
)
from glm4v_core.processing import Glm4vVideoProcessor
from glm4v_core.video_reading import open_video
from tests.clips import (
    read_number,
    write_animation,
)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animated_images_are_clips(tmp_path: Path, suffix: str) -> None:
    path = write_animation(tmp_path / f"animation.{suffix}", duration=40)
    with open_video(path) as source:
        assert source.metadata.total_num_frames == 12
        assert source.metadata.fps == pytest.approx(25)
        assert source.timestamps == pytest.approx([number / 25 for number in range(12)])
        assert [read_number(frame) for frame in source.frames([0, 5, 5, 11])] == [0, 5, 5, 11]


def test_frames_of_an_animation_are_shown_as_long_as_each_asks(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "uneven.gif", duration=[100, 500] * 6)
    with open_video(path) as source:
        assert source.timestamps[:4] == pytest.approx([0.0, 0.1, 0.6, 0.7])
        assert source.metadata.duration == pytest.approx(3.6)


def test_an_animation_without_delays_runs_as_in_a_browser(tmp_path: Path) -> None:
    with open_video(write_animation(tmp_path / "fast.gif", duration=0)) as source:
        assert source.metadata.fps == pytest.approx(10)


def test_an_animations_transparency_is_white(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (40, 40), (0, 0, 255, 0)), Image.new("RGBA", (40, 40), (255, 0, 0, 255))]
    path = tmp_path / "clear.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    with open_video(path) as source:
        first, second = source.frames([0, 1])
    assert first[:, 20, 20].tolist() == [255, 255, 255]
    assert second[:, 20, 20].tolist() == [255, 0, 0]


def test_a_real_gif_is_a_clip(media_dir: Path) -> None:
    features = Glm4vVideoProcessor()(media_dir / "newtonscradle.gif")
    assert features.video_grid_thw.shape == (1, 3)
    with open_video(media_dir / "newtonscradle.gif") as source:
        assert source.metadata.total_num_frames == 36


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_an_animation_cut_short_is_corrupt(media_dir: Path, tmp_path: Path, share: float) -> None:
    whole = (media_dir / "newtonscradle.gif").read_bytes()
    path = tmp_path / "cut.gif"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CorruptMedia, match="cut short"):
        open_video(path)


@pytest.mark.parametrize("name", ["rocket.jpg", "chelsea.png"])
def test_a_still_image_is_no_clip(media_dir: Path, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match="still image"):
        open_video(media_dir / name)
