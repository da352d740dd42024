from __future__ import annotations

import time

from worker.uuid7 import uuid7


def test_it_is_a_version_7_uuid_of_this_moment():
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_none_comes_twice():
    assert len({uuid7() for _ in range(10_000)}) == 10_000
