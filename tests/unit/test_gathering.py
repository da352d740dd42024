"""Many threads' requests become few transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from glm4v_client.states import MediaKind
from worker.errors import DatabaseUnavailable, WorkerStopping
from worker.gathering import Gatherer
from worker.lookup import Content, Lookup
from worker.records import EmbeddingRecord


def embedding(content_sha256: str) -> EmbeddingRecord:
    return EmbeddingRecord(
        content_sha256=content_sha256,
        fingerprint="f",
        kind=MediaKind.IMAGE,
        object_key="k",
        grid_thw=(1, 8, 8),
        timestamps=None,
        frame_indices=None,
        num_tokens=16,
        dim=8,
        dtype="float32",
        byte_size=1,
        object_sha256="o",
    )


class Store:
    """Holds some contents."""

    def __init__(self, *contents: str) -> None:
        self._stored = {(content, "f"): embedding(content) for content in contents}
        self.asked: list[list[Content]] = []
        self.fails = False

    def find_embeddings(self, contents: Iterable[Content]) -> Mapping[Content, EmbeddingRecord]:
        self.asked.append(list(contents))
        if self.fails:
            raise DatabaseUnavailable
        return {content: self._stored[content] for content in self.asked[-1] if content in self._stored}


def test_entries_come_out_in_order_and_in_groups_no_larger_than_allowed() -> None:
    gatherer: Gatherer[int] = Gatherer(largest=3)
    for entry in range(8):
        gatherer.put(entry)
    gatherer.close()
    assert list(gatherer.groups()) == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_nothing_put_makes_no_group() -> None:
    gatherer: Gatherer[int] = Gatherer(largest=3)
    gatherer.close()
    assert list(gatherer.groups()) == []


def test_each_thread_gets_its_own_answer() -> None:
    store = Store("a", "b")
    lookup = Lookup(store)
    lookup.start()
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda content: lookup.find_embedding(content, "f"), "abcab" * 20))
    assert answers == [embedding("a"), embedding("b"), None, embedding("a"), embedding("b")] * 20
    assert sum(len(contents) for contents in store.asked) == 100
    lookup.stop()


def test_an_error_goes_to_those_who_asked_and_the_next_are_answered() -> None:
    store = Store("a")
    store.fails = True
    lookup = Lookup(store)
    lookup.start()
    with pytest.raises(DatabaseUnavailable):
        lookup.find_embedding("a", "f")
    store.fails = False
    assert lookup.find_embedding("a", "f") == embedding("a")
    lookup.stop()


def test_after_the_end_nobody_waits_for_an_answer() -> None:
    lookup = Lookup(Store("a"))
    lookup.start()
    lookup.stop()
    with pytest.raises(WorkerStopping):
        lookup.find_embedding("a", "f")
