"""Addresses within the status page: what is not chosen is left out."""

from __future__ import annotations

from urllib.parse import urlencode

from glm4v_client.records import Counts
from glm4v_client.states import ItemState, JobState

#: In the order of interest: what failed comes first.
_ITEM_STATES = (
    ItemState.FAILED,
    ItemState.RUNNING,
    ItemState.QUEUED,
    ItemState.SUCCEEDED,
    ItemState.CANCELLED,
)

#: A filter's name, its address, and whether it is the one in use.
Choice = tuple[str, str, bool]
#: The same with the number of items that it leaves.
CountedChoice = tuple[str, int, str, bool]


def link(path: str, **parameters: str | None) -> str:
    """`/jobs/7?state=failed`."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path


def job_choices(chosen: JobState | None, *, label: str | None) -> list[Choice]:
    """All jobs, or those in one state."""
    states = [("All", None), *((state.value.capitalize(), state) for state in JobState)]
    return [(name, link("/", state=state, label=label), state is chosen) for name, state in states]


def item_choices(path: str, counts: Counts, chosen: ItemState | None) -> list[CountedChoice]:
    """All items of a job, or those in one state."""
    all_items = ("All", counts.total, path, chosen is None)
    return [
        all_items,
        *(
            (state.value.capitalize(), getattr(counts, state.value), link(path, state=state), state is chosen)
            for state in _ITEM_STATES
        ),
    ]
