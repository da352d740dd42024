"""How queued items are put into messages."""

from __future__ import annotations

import pytest

from worker.dispatch import Message, messages
from worker.records import DispatchedItem


def item(item_id: int, *, priority: int = 5, suspect: bool = False) -> DispatchedItem:
    return DispatchedItem(id=item_id, priority=priority, suspect=suspect)


def message(*item_ids: int, priority: int = 5, alone: bool = False) -> Message:
    return Message(item_ids=list(item_ids), priority=priority, alone=alone)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([], [], id="nothing makes no message"),
        pytest.param([item(1), item(2)], [message(1, 2)], id="a few share one"),
        pytest.param(
            [item(n) for n in range(7)], [message(0, 1, 2), message(3, 4, 5), message(6)], id="many fill several"
        ),
        pytest.param([item(1, priority=9), item(2)], [message(1, priority=9), message(2)], id="priorities do not mix"),
        pytest.param(
            [item(1), item(2, suspect=True), item(3, suspect=True), item(4)],
            [message(1), message(2, alone=True), message(3, alone=True), message(4)],
            id="each suspect travels alone",
        ),
    ],
)
def test_items_are_put_into_messages(items: list[DispatchedItem], expected: list[Message]) -> None:
    assert list(messages(items, 3)) == expected
