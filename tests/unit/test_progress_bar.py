from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.progress_bar import NARROWEST, stripes, tried
from glm4v_client.records import Counts
from glm4v_client.states import ItemState

numbers = st.integers(0, 10**9)


def counts(*, queued: int = 0, running: int = 0, succeeded: int = 0, failed: int = 0, cancelled: int = 0) -> Counts:
    return Counts(
        total=queued + running + succeeded + failed + cancelled,
        queued=queued,
        running=running,
        succeeded=succeeded,
        failed=failed,
        cancelled=cancelled,
    )


def test_stripes_lie_side_by_side_as_wide_as_their_share() -> None:
    drawn = stripes(counts(queued=50, running=10, succeeded=30, failed=10))

    assert [(one.state, one.left, one.width) for one in drawn] == [
        (ItemState.SUCCEEDED, 0, 30),
        (ItemState.FAILED, 30, 10),
        (ItemState.RUNNING, 40, 10),
    ]


def test_one_failure_among_a_million_items_is_seen() -> None:
    failed = stripes(counts(succeeded=999_999, failed=1))[-1]

    assert failed.state is ItemState.FAILED
    assert failed.width == pytest.approx(NARROWEST, rel=0.01)


def test_a_job_without_items_has_a_bare_track() -> None:
    assert stripes(counts()) == []


def test_a_cancelled_item_was_not_tried() -> None:
    assert tried(counts(succeeded=3, failed=2, cancelled=5, running=1, queued=1)) == 5


@given(queued=numbers, running=numbers, succeeded=numbers, failed=numbers, cancelled=numbers)
def test_the_stripes_never_overlap_and_never_leave_the_bar(
    queued: int, running: int, succeeded: int, failed: int, cancelled: int
) -> None:
    drawn = stripes(counts(queued=queued, running=running, succeeded=succeeded, failed=failed, cancelled=cancelled))

    ends = [one.left + one.width for one in drawn]
    assert all(end <= 100.01 for end in ends)
    assert all(after.left == pytest.approx(end, abs=0.01) for after, end in zip(drawn[1:], ends, strict=False))
