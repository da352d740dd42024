"""A job's bar: one stripe for each state, wide as its share of the items."""

from __future__ import annotations

from dataclasses import dataclass

from glm4v_client.records import Counts
from glm4v_client.states import ItemState

#: Percent of the bar. One failure among a million items would be no pixel wide.
NARROWEST = 0.6

_FROM_THE_LEFT = (ItemState.SUCCEEDED, ItemState.FAILED, ItemState.CANCELLED, ItemState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stripe:
    """One state's part of the bar, in percent of its width."""

    state: ItemState
    left: float
    width: float


def tried(counts: Counts) -> int:
    """Items that came to an end of their own; those that were cancelled did not, though nothing is left to do."""
    return counts.succeeded + counts.failed


def stripes(counts: Counts) -> list[Stripe]:
    """From the left: what is done, then what runs. What waits is the bare track."""
    shares = {state: getattr(counts, state.value) for state in _FROM_THE_LEFT}
    widths = {state: max(NARROWEST, 100 * share / counts.total) for state, share in shares.items() if share}
    # What the narrowest have too much, all give back: the bar ends where it ends.
    scale = min(1.0, 100 / sum(widths.values())) if widths else 1.0
    drawn, left = [], 0.0
    for state, width in widths.items():
        drawn.append(Stripe(state=state, left=round(left, 3), width=round(width * scale, 3)))
        left += width * scale
    return drawn
