"""Frames of clips for people to look at."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from api.clip_frames import NotShown, read_frames
from glm4v_core.video_reading import open_video
from tests.clips import read_number, write_animation, write_numbered_clip, write_sound_only

LIMITS = {"max_pixels": 1_000_000, "patience": 60.0}


def numbers(clip: Path, seconds: list[float]) -> list[int]:
    return [read_number(np.asarray(frame).transpose(2, 0, 1)) for frame in read_frames(clip, seconds, **LIMITS)]


@pytest.mark.parametrize("options", [{"bf": "0", "g": "5"}, {"bf": "3", "g": "50"}])
def test_the_frame_at_each_time_is_found(tmp_path: Path, options: dict[str, str]) -> None:
    clip = write_numbered_clip(tmp_path / "clip.mp4", 90, options=options)

    assert numbers(clip, [0.0, 0.5, 1.0, 89 / 30]) == [0, 15, 30, 89]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_clip_held_otherwise_is_shown_as_it_was_embedded(tmp_path: Path, rotation: int) -> None:
    clip = write_numbered_clip(tmp_path / "clip.mp4", 3, rotation=rotation)
    with open_video(clip) as source:
        (embedded,) = source.frames([0])

    (shown,) = read_frames(clip, [0.0], **LIMITS)

    assert np.abs(np.asarray(shown, int) - embedded.permute(1, 2, 0).numpy()).mean() < 3


def test_an_animation_is_shown(tmp_path: Path) -> None:
    assert len(read_frames(write_animation(tmp_path / "a.gif"), [0.0], **LIMITS)) == 1


def test_what_cannot_be_shown_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_numbered_clip(tmp_path / "clip.mp4", 9)
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 100)

    with pytest.raises(NotShown, match="192x96"):
        read_frames(clip, [0.0], max_pixels=1000, patience=60)
    with pytest.raises(NotShown, match="too long"):
        read_frames(clip, [0.0], max_pixels=1_000_000, patience=-1)
    with pytest.raises(NotShown, match="no video stream"):
        read_frames(write_sound_only(tmp_path / "sound.mp4"), [0.0], **LIMITS)
    with pytest.raises(NotShown, match="decoder"):
        read_frames(tmp_path / "noise", [0.0], **LIMITS)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NotShown, match="PyAV"):
        read_frames(clip, [0.0], **LIMITS)
