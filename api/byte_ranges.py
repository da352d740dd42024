"""The Range header: one range of bytes, as RFC 9110 has it."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class NotSatisfiable(Exception):  # noqa: N818 - an answer, not a mistake
    """The range lies beyond the end."""


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes that are asked for; None for all of them, also where the header asks for what need not be understood.

    Raises:
        NotSatisfiable: there are no such bytes.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise NotSatisfiable
    return range(start, stop)
