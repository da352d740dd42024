from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.long_clip import measured_apart, render

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "most_mib"), [("ours", 700), ("ours to uint8 patches", 350)])
def test_a_clip_costs_memory_for_its_resized_frames_only(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, reader: str, most_mib: int
) -> None:
    # The 180 frames sampled of 90 s would take 1120 MB as RGB, and fill the pixel budget as those of an hour do.
    clip = tmp_path_factory.getbasetemp() / "1.5.mp4"
    if not clip.exists():
        render(clip, 90)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    measured = measured_apart(reader, clip)
    assert measured["frames"] == 180
    assert measured["peak_mib"] <= most_mib
