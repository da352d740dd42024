from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from api import human

NOW = datetime(2026, 11, 23, 22, 49, 48, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0004, "under 1 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
        (86400 * 4000, "4,000 d"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert human.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "just now"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (7300, "2 h ago"),
        (200_000, "2 d ago"),
        (-42, "in 42 s"),
    ],
)
def test_times_are_told_relative_to_the_moment_of_the_answer(seconds: float, shown: str) -> None:
    assert human.ago(NOW - timedelta(seconds=seconds), NOW) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [(1234.4, "1,234 items/s"), (12.34, "12.3 items/s"), (0.5, "30.0 items/min"), (0.001, "3.6 items/h")],
)
def test_a_slow_rate_is_counted_by_the_minute_or_the_hour(per_second: float, shown: str) -> None:
    assert human.rate(per_second) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (1_258_291, "1.2 MiB"), (2**60, "1,048,576.0 TiB")],
)
def test_sizes_count_in_powers_of_1024(number: int, shown: str) -> None:
    assert human.size(number) == shown


def test_a_size_is_never_rounded_up_to_1024_of_its_unit() -> None:
    assert human.size(2**20 - 1) == "1.0 MiB"


def test_nothing_is_at_a_hundred_percent_before_its_last_item() -> None:
    assert human.percent(999_999, 1_000_000) == "99 %"
    assert human.percent(1_000_000, 1_000_000) == "100 %"
    assert human.percent(0, 0) == "0 %"


def test_one_is_not_many() -> None:
    assert human.plural(1, "item") == "1 item"
    assert human.plural(2000, "item") == "2,000 items"
    assert human.plural(2, "temporal patch", "temporal patches") == "2 temporal patches"


def test_a_time_is_shown_in_utc_wherever_it_comes_from() -> None:
    assert human.utc(NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-11-23 22:49:48 UTC"
