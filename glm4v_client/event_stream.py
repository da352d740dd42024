"""Server-sent events, from the bytes in which they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    name: str
    data: str


class EventReader:
    """Puts events together from chunks that end anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes."""
        # Lines are found before bytes are decoded: a text's own line separators stay inside the text.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r").decode())

    def _line(self, line: str) -> Iterator[Event]:
        field, _, value = line.partition(":")
        if line == "":
            if self._data:
                yield Event(name=self._name or "message", data="\n".join(self._data))
            self._name, self._data = "", []
        elif field == "event":
            self._name = value.removeprefix(" ")
        elif field == "data":
            self._data.append(value.removeprefix(" "))
