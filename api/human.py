"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def plural(number: int, noun: str, several: str | None = None) -> str:
    """`1 item`, `2,000 items`; `several` is for nouns that take no s."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def duration(seconds: float) -> str:
    """`12 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`: two units at most."""
    # Each bound is where the unit below it would be rounded up to one of the next.
    if seconds < 0.0005:
        return "under 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {unit} {rest} {smaller_unit}" if rest else f"{whole // size:,} {unit}"
    return f"{whole} s"


def ago(time: datetime, now: datetime) -> str:
    """`just now`, `3 min ago`, `in 2 h`: one unit."""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    units = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s"))
    size, unit = next((size, unit) for size, unit in units if abs(seconds) >= size)
    number = int(abs(seconds) // size)
    return f"{number:,} {unit} ago" if seconds > 0 else f"in {number:,} {unit}"


def rate(items_per_second: float) -> str:
    """`12.3 items/s`; what is slower is counted by the minute or by the hour."""
    units = ((items_per_second, "s"), (items_per_second * _MINUTE, "min"))
    number, unit = next((one for one in units if one[0] >= 1), (items_per_second * _HOUR, "h"))
    digits = 0 if number >= 99.95 else 1
    return f"{number:,.{digits}f} items/{unit}"


def size(number: int) -> str:
    """`512 bytes`, `1.2 MiB`."""
    amount = float(number)
    for unit in _BYTE_UNITS:
        # 1023.95 KiB would be shown as 1024.0.
        if amount < 1023.95 or unit == _BYTE_UNITS[-1]:
            break
        amount /= 1024
    return f"{number:,} {_BYTE_UNITS[0]}" if unit == _BYTE_UNITS[0] else f"{amount:,.1f} {unit}"


def percent(part: int, whole: int) -> str:
    """`42 %`, rounded down: nothing is at 100 % before its last item."""
    return f"{part * 100 // whole if whole else 0} %"


def utc(time: datetime) -> str:
    """`2026-11-23 22:49:48 UTC`."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
