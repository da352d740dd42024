"""Looks for embeddings that exist already, many items' in one query: one by one it was a quarter of a worker's CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Protocol

from worker.errors import WorkerStopping
from worker.gathering import Gatherer
from worker.records import EmbeddingRecord

#: Contents in one query, at most.
_LARGEST_GROUP = 256

#: sha256 of the bytes, and fingerprint.
Content = tuple[str, str]

_Asked = tuple[Content, "Future[EmbeddingRecord | None]"]


class Embeddings(Protocol):
    """The part of the repository that knows what has been computed already."""

    def find_embeddings(self, contents: Iterable[Content]) -> Mapping[Content, EmbeddingRecord]: ...


class Lookup:
    """A thread that asks for everybody. Safe to use from many threads."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._asked: Gatherer[_Asked] = Gatherer(largest=_LARGEST_GROUP)
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lookup", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked so far, and end the thread."""
        with self._lock:
            self._stopped = True
        self._asked.close()
        self._thread.join()

    def find_embedding(self, content_sha256: str, fingerprint: str) -> EmbeddingRecord | None:
        """The stored embedding of a content, if there is one.

        Raises:
            DatabaseUnavailable: the database did not answer.
            WorkerStopping: it is too late to ask.
        """
        answer: Future[EmbeddingRecord | None] = Future()
        with self._lock:
            if self._stopped:
                raise WorkerStopping
            self._asked.put(((content_sha256, fingerprint), answer))
        return answer.result()

    def _run(self) -> None:
        for group in self._asked.groups():
            try:
                found = self._embeddings.find_embeddings([content for content, _ in group])
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked, and never to the thread
                for _, answer in group:
                    answer.set_exception(error)
            else:
                for content, answer in group:
                    answer.set_result(found.get(content))
