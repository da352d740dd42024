from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from glm4v_client.event_stream import Event, EventReader

STREAM = (
    b": a comment that keeps the connection open\n\n"
    b'event: progress\ndata: {"label": "caf\xc3\xa9 \xe2\x80\xa8 \xc2\x85 end"}\n\n'
    b"data:first\ndata: second\n\n"
    b"event: nothing\n\n"
    b"event: end\r\nid: 7\r\ndata: {}\r\n\r\n"
    b"event: progress\ndata: cut off"
)
EVENTS = [
    # A text's own line separators do not end a line of the stream.
    Event(name="progress", data='{"label": "café \u2028 \x85 end"}'),
    Event(name="message", data="first\nsecond"),
    Event(name="end", data="{}"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_wherever_the_chunks_end(cuts: list[int]):
    bounds = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    chunks = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == EVENTS
