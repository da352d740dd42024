from __future__ import annotations

from datetime import UTC, datetime

import pytest

from glm4v_client.errors import (
    ClientError,
    DamagedDownload,
    InvalidArgument,
    InvalidRequest,
    ServiceError,
    ServiceFailed,
    ServiceTimeout,
    ServiceUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
)
from glm4v_client.problems import retry_after
from glm4v_client.records import Problem
from glm4v_client.retrying import Attempts, RetryPolicy

POLICY = RetryPolicy(attempts=4, base_seconds=1, limit_seconds=3, busy_seconds=100)


def refusal(kind: type[ServiceError], status: int, *, retry_after_seconds: float | None = None) -> ServiceError:
    problem = Problem(type="about:blank", title="", status=status, code="x", detail="x")
    return kind(problem, retry_after_seconds=retry_after_seconds)


LOST = ServiceUnreachable("the answer was lost", was_sent=True)
NEVER_SENT = ServiceUnreachable("no connection", was_sent=False)


@pytest.mark.parametrize(
    ("error", "when_repeatable", "otherwise"),
    [
        # What may have been done is repeated only where that does no harm.
        (LOST, True, False),
        (ServiceTimeout("silence", was_sent=True), True, False),
        (refusal(ServiceFailed, 502), True, False),
        (refusal(ServiceFailed, 504), True, False),
        # What certainly was not done is repeated always.
        (NEVER_SENT, True, True),
        (refusal(ServiceFailed, 503), True, True),
        (refusal(TooManyRequests, 429), True, True),
        # What would end the same is not repeated.
        (refusal(ServiceFailed, 500), False, False),
        (refusal(InvalidRequest, 422), False, False),
        (UnexpectedAnswer("a page"), False, False),
        (DamagedDownload("another digest"), False, False),
    ],
)
def test_what_is_tried_again(error: ClientError, when_repeatable: bool, otherwise: bool):
    assert (Attempts(POLICY).delay(error, repeatable=True, chance=0.5) is not None) == when_repeatable
    assert (Attempts(POLICY).delay(error, repeatable=False, chance=0.5) is not None) == otherwise


def test_waits_double_up_to_their_limit_and_chance_takes_a_share_of_them():
    attempts = Attempts(POLICY)
    assert [attempts.delay(LOST, repeatable=True, chance=0.5) for _ in range(4)] == [0.5, 1.0, 1.5, None]


def test_success_begins_the_count_anew():
    attempts = Attempts(POLICY)
    for _ in range(3):
        attempts.delay(LOST, repeatable=True, chance=1)
    attempts.succeeded()
    assert attempts.delay(LOST, repeatable=True, chance=1) == 1


def test_the_service_says_how_long_and_a_little_is_added_so_that_not_all_come_at_once():
    busy = refusal(TooManyRequests, 429, retry_after_seconds=10)
    assert Attempts(POLICY).delay(busy, repeatable=True, chance=0.25) == 10.25


def test_patience_with_a_busy_service_is_measured_in_time_not_in_attempts():
    busy, attempts = refusal(TooManyRequests, 429, retry_after_seconds=10), Attempts(POLICY)
    assert [attempts.delay(busy, repeatable=True, chance=0) for _ in range(11)] == [10] * 10 + [None]


def test_a_broken_service_that_asks_for_too_long_is_not_waited_for():
    assert (
        Attempts(POLICY).delay(refusal(ServiceFailed, 503, retry_after_seconds=101), repeatable=True, chance=0) is None
    )


def test_attempts_beyond_all_reason_do_not_overflow():
    attempts = Attempts(RetryPolicy(attempts=3000))
    assert [attempts.delay(LOST, repeatable=True, chance=1) for _ in range(2999)][-1] == 20


@pytest.mark.parametrize("values", [{"attempts": 0}, {"base_seconds": -1}, {"busy_seconds": -0.1}])
def test_a_policy_that_makes_no_sense_is_refused(values: dict[str, float]):
    with pytest.raises(InvalidArgument, match="at least one attempt"):
        RetryPolicy(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Thu, 01 Jan 2026 00:01:30 GMT", 90),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:01:30", None),
        ("-5", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None):
    assert retry_after(value, now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds
