from __future__ import annotations

import pytest

from glm4v_core.video_source import frame_rate


def test_timestamps_that_a_container_rounded_are_a_constant_rate() -> None:
    times = [round(index / 30, 3) for index in range(300)]
    assert frame_rate(times, 10.0, [30.0]) == (30.0, None)


def test_the_first_rate_that_fits_is_taken() -> None:
    assert frame_rate([0.0, 0.04, 0.08], 0.12, [1000.0, 25.0]) == (25.0, None)


def test_times_that_no_rate_fits_are_kept() -> None:
    times = [0.0, 0.1, 1.1, 1.2]
    fps, kept = frame_rate(times, 2.0, [30.0])
    assert fps == pytest.approx(2.0)
    assert kept == times


def test_a_slow_drift_is_no_constant_rate() -> None:
    times = [index / 29 for index in range(300)]
    fps, kept = frame_rate(times, 300 / 29, [30.0])
    assert fps == pytest.approx(29)
    assert kept == times
