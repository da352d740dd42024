from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm4v_client.states import MediaKind
from worker.errors import (
    CorruptMedia,
    DatabaseUnavailable,
    EmbedError,
    HttpUnavailable,
    InternalError,
    ItemCancelled,
    LeaseLost,
    StorageUnavailable,
    WorkerStopping,
)
from worker.records import ClaimedItem, Failed, Released, Retry
from worker.retry import RetryPolicy

POLICY = RetryPolicy(max_attempts=5, base_seconds=2, limit_seconds=10)


def item(attempt: int) -> ClaimedItem:
    return ClaimedItem(
        id=7,
        job_id=UUID(int=1),
        position=0,
        source="photo.jpg",
        kind=MediaKind.AUTO,
        model="random:tiny",
        options={},
        attempt=attempt,
        lease_owner="here",
        suspect=False,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("error", "attempt", "chance", "decision", "delay"),
    [
        pytest.param(HttpUnavailable(), 1, 0.5, Retry, 1.0, id="a transient error is tried again"),
        pytest.param(HttpUnavailable(), 1, 0.0, Retry, 0.0, id="perhaps at once"),
        pytest.param(HttpUnavailable(), 2, 0.5, Retry, 2.0, id="the longest wait doubles"),
        pytest.param(HttpUnavailable(), 3, 0.5, Retry, 4.0, id="and doubles"),
        pytest.param(HttpUnavailable(), 4, 0.5, Retry, 5.0, id="up to the limit"),
        pytest.param(HttpUnavailable(), 5, 0.5, Failed, None, id="the last attempt is the last"),
        pytest.param(HttpUnavailable(), 6, 0.5, Failed, None, id="also when the limit was lowered meanwhile"),
        pytest.param(StorageUnavailable(), 1, 0.5, Retry, 5.0, id="an outage is waited for longer"),
        pytest.param(StorageUnavailable(), 5, 0.5, Retry, 5.0, id="an outage uses up no attempts"),
        pytest.param(CorruptMedia(), 1, 0.5, Failed, None, id="a permanent error is not tried again"),
        pytest.param(InternalError(), 1, 0.5, Failed, None, id="nor is a mistake of ours"),
        pytest.param(WorkerStopping(), 1, 0.5, Released, None, id="what is given back is nobody's fault"),
        pytest.param(WorkerStopping(), 5, 0.5, Released, None, id="even at the last attempt"),
        pytest.param(ItemCancelled(), 1, 0.5, Released, None, id="a cancelled item is given back"),
        pytest.param(LeaseLost(), 1, 0.5, Released, None, id="a lost one too, which changes nothing"),
    ],
)
def test_an_error_and_an_attempt_decide_what_becomes_of_an_item(
    error: EmbedError, attempt: int, chance: float, decision: type, delay: float | None
) -> None:
    outcome = POLICY.outcome(item(attempt), error, {"total": 1.0}, chance=chance)

    assert type(outcome) is decision
    assert getattr(outcome, "delay_seconds", None) == delay
    if not isinstance(outcome, Released):
        assert (outcome.code, outcome.message, outcome.timings) == (error.code, error.message, {"total": 1.0})


@given(attempt=st.integers(1, 10_000))
def test_no_attempt_number_makes_the_wait_leave_its_limit(attempt: int) -> None:
    assert 0 < POLICY.longest_wait(attempt) <= POLICY.longest_wait(attempt + 1) <= 10


def test_an_outage_is_not_charged_to_the_item() -> None:
    outcome = POLICY.outcome(item(3), DatabaseUnavailable(), {}, chance=0.5)
    assert isinstance(outcome, Retry)
    assert not outcome.charged


def test_where_somebody_sits_and_waits_an_outage_is_charged_like_anything_else() -> None:
    policy = dataclasses.replace(POLICY, charge_outages=True)
    first, last = (policy.outcome(item(attempt), StorageUnavailable(), {}, chance=0.5) for attempt in (1, 5))
    assert isinstance(first, Retry)
    assert (first.charged, first.delay_seconds) == (True, 1.0)
    assert isinstance(last, Failed)
