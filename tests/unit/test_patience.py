from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from glm4v_core.patience import Busy, Patience
from glm4v_core.weights import CheckpointError


def waits(errors: list[Exception], **options: int) -> list[float]:
    """What a server that fails in this way is given, in seconds."""
    seconds: list[float] = []
    tries = Patience(pause=seconds.append, **options).tries()
    for error in errors:
        tries.wait(error)
    return seconds


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"RateLimit": '"resolvers";r=0;t=55'}, 55, 55),
        ({"Retry-After": "soon"}, 0.5, 1),
        ({}, 0.5, 1),
    ],
)
def test_a_server_that_says_when_is_asked_then(headers: dict[str, str], least: float, most: float) -> None:
    (seconds,) = waits([Busy("busy", headers)])
    assert least <= seconds <= most


@pytest.mark.parametrize(("ahead", "least", "most"), [(600, 300, 600), (-600, 0, 0)])
def test_a_server_may_also_say_it_as_a_date(ahead: int, least: float, most: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    (seconds,) = waits([Busy("busy", {"Retry-After": date})])
    assert least <= seconds <= most


def test_one_that_does_not_is_given_longer_each_time_but_half_a_minute_at_most() -> None:
    seconds = waits([OSError("reset")] * 9, attempts=20)
    assert all(
        least <= wait <= 2 * least for wait, least in zip(seconds, [0.5, 1, 2, 4, 8, 15, 15, 15, 15], strict=True)
    )


def test_progress_starts_the_count_anew() -> None:
    tries = Patience(attempts=2, pause=lambda _: None).tries()
    for _ in range(5):
        tries.wait(OSError("reset"))
        tries.succeeded()
    tries.wait(OSError("reset"))
    with pytest.raises(CheckpointError, match=r"cannot be reached \(reset, 2 times in a row\)"):
        tries.wait(OSError("reset"))


def test_an_hours_rest_is_left_to_a_later_command() -> None:
    with pytest.raises(CheckpointError, match="asks to wait 3600 s: run the same command again then"):
        waits([Busy("the hub answers 429", {"Retry-After": "3600"})])


def test_a_wait_ends_when_the_fetch_is_stopped() -> None:
    patience = Patience()
    patience.stop()
    with pytest.raises(CheckpointError, match="stopped"):
        patience.tries().wait(Busy("busy", {"Retry-After": "500"}))
