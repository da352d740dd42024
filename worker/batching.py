"""Which segments go into the next forward: a pure decision.

A segment is one temporal patch. Attention never crosses segments, so a request may be split between any two of them and
its pieces may share a forward with anyone's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a request still has to encode."""

    #: Segments that no forward has taken yet, at least 1.
    segments: int
    #: Patches of each of them.
    patches: int
    #: Never in one forward with another request: it is suspected of having killed a worker.
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Share:
    """The next `segments` of the request at `index` of the queue."""

    index: int
    segments: int


def next_batch(queue: Iterable[Waiting], patch_budget: int) -> list[Share]:
    """Take from a queue, oldest first, what one forward of at most `patch_budget` patches can hold.

    The oldest request is always part of the batch, so nothing starves; a segment above the budget runs by itself.
    Younger requests fill the room that older ones have no use for.
    """
    shares: list[Share] = []
    room = patch_budget
    for index, request in enumerate(queue):
        if room <= 0:
            break
        if shares and request.alone:
            continue
        segments = min(request.segments, room // request.patches)
        if not shares:
            segments = max(segments, 1)
        if segments:
            shares.append(Share(index=index, segments=segments))
            room -= segments * request.patches
        if request.alone:
            break
    return shares
