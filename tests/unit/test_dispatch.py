"""How queued items are put into messages."""

from __future__ import annotations

import pytest

from worker.dispatch import messages
from worker.records import DispatchedItem


def item(item_id: int, *, priority: int = 5, suspect: bool = False) -> DispatchedItem:
    return DispatchedItem(id=item_id, priority=priority, suspect=suspect)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([], [], id="nothing makes no message"),
        pytest.param([item(1), item(2)], [(5, [1, 2])], id="a few share one"),
        pytest.param([item(n) for n in range(7)], [(5, [0, 1, 2]), (5, [3, 4, 5]), (5, [6])], id="many fill several"),
        pytest.param([item(1, priority=9), item(2)], [(9, [1]), (5, [2])], id="priorities do not mix"),
        pytest.param(
            [item(1), item(2, suspect=True), item(3, suspect=True), item(4)],
            [(5, [1]), (5, [2]), (5, [3]), (5, [4])],
            id="each suspect travels alone",
        ),
    ],
)
def test_items_are_put_into_messages(items: list[DispatchedItem], expected: list[tuple[int, list[int]]]) -> None:
    assert list(messages(items, 3)) == expected
