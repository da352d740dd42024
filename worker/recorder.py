"""Writes what became of items into the database, many in one transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from worker.errors import TransientError
from worker.gathering import Gatherer
from worker.records import Outcome, Recorded

log = logging.getLogger(__name__)

#: Outcomes in one transaction, at most: a longer one would keep its rows locked for too long.
_LARGEST_GROUP = 256
#: Seconds between two attempts while the database is away.
_PAUSE = 0.5


class Book(Protocol):
    """The part of the repository that takes outcomes."""

    def record(self, outcomes: Sequence[Outcome]) -> Recorded: ...


@dataclass(frozen=True, kw_only=True)
class _Entry:
    outcome: Outcome
    recorded: Future[Recorded] = field(default_factory=Future)


class Recorder:
    """One thread that records for everybody. Safe to use from many threads."""

    def __init__(self, book: Book, *, patience_seconds: float) -> None:
        """
        Args:
            patience_seconds: for which a database that is away is waited for. Longer than a lease makes no sense: the
                items are others' by then.
        """
        self._book = book
        self._patience_seconds = patience_seconds
        self._entries: Gatherer[_Entry] = Gatherer(largest=_LARGEST_GROUP)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Record what was handed over so far; a database that is away is asked once more and not waited for."""
        self._stopping.set()
        self._entries.close()
        if self._thread is not None:
            self._thread.join()

    def record(self, outcome: Outcome) -> Future[Recorded]:
        """Hand over an outcome. The future raises an EmbedError if it could not be recorded."""
        entry = _Entry(outcome=outcome)
        self._entries.put(entry)
        return entry.recorded

    def _run(self) -> None:
        for group in self._entries.groups():
            self._record(group)

    def _record(self, group: list[_Entry]) -> None:
        try:
            recorded = self._persist([entry.outcome for entry in group])
        except TransientError as error:
            log.error("%d outcomes could not be recorded: %s", len(group), error.message)
            for entry in group:
                entry.recorded.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            self._record_one_by_one(group, error)
        else:
            for entry in group:
                entry.recorded.set_result(recorded)

    def _record_one_by_one(self, group: list[_Entry], error: Exception) -> None:
        """One outcome that the database refuses must not take the others with it."""
        if len(group) == 1:
            log.error("the outcome of item %d is refused", group[0].outcome.item.id, exc_info=error)
            group[0].recorded.set_exception(error)
            return
        for entry in group:
            self._record([entry])

    def _persist(self, outcomes: Sequence[Outcome]) -> Recorded:
        give_up = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._book.record(outcomes)
            except TransientError as error:
                if self._stopping.is_set() or time.monotonic() > give_up:
                    raise
                log.warning("the database is asked again: %s", error.message)
                self._stopping.wait(_PAUSE)
