"""The items that this process holds, kept its own for as long as it works on them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from worker.errors import Interrupted, ItemCancelled, LeaseLost, TransientError, WorkerStopping
from worker.records import ClaimedItem, Renewal

log = logging.getLogger(__name__)


class Renewer(Protocol):
    """The part of the repository that keeps leases alive."""

    def renew(self, items: Sequence[ClaimedItem], *, lease_seconds: float) -> Renewal: ...


class Lease:
    """One item in this process's hands; it can be taken away at any moment."""

    def __init__(self, item: ClaimedItem) -> None:
        self.item = item
        #: Set by whoever works on the item, when all of it is decoded: from then on it is worth finishing.
        self.is_decoded = False
        self._taken: Interrupted | None = None

    def take_away(self, reason: Interrupted) -> None:
        self._taken = self._taken or reason

    def check(self) -> None:
        """Call between stages and while waiting.

        Raises:
            Interrupted: nobody wants this attempt any more.
        """
        if self._taken is not None:
            raise self._taken


class Leases:
    """All of them, renewed by a thread of their own: a slow transaction must not cost a healthy worker its items."""

    def __init__(self, repository: Renewer, *, lease_seconds: float) -> None:
        self._repository = repository
        self._lease_seconds = lease_seconds
        self._leases: dict[int, Lease] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def hold(self, items: Iterable[ClaimedItem]) -> list[Lease]:
        leases = [Lease(item) for item in items]
        with self._changed:
            self._leases.update((lease.item.id, lease) for lease in leases)
        return leases

    def let_go(self, lease: Lease) -> None:
        with self._changed:
            # A frozen process may have lost the item and claimed it again: the newer lease stays.
            if self._leases.get(lease.item.id) is lease:
                del self._leases[lease.item.id]
                self._changed.notify_all()

    def stop_undecoded(self) -> None:
        """Give up what is not decoded yet; what is gets finished."""
        for lease in self._held():
            if not lease.is_decoded:
                lease.take_away(WorkerStopping())

    def stop_all(self) -> None:
        for lease in self._held():
            lease.take_away(WorkerStopping())

    def wait_until_none(self, timeout_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._leases, timeout_seconds)

    def __len__(self) -> int:
        return len(self._leases)

    def _held(self) -> list[Lease]:
        with self._changed:
            return list(self._leases.values())

    def _run(self) -> None:
        # Two renewals may fail before a lease is over.
        while not self._stopped.wait(self._lease_seconds / 3):
            self._renew()

    def _renew(self) -> None:
        leases = self._held()
        if not leases:
            return
        try:
            renewal = self._repository.renew([lease.item for lease in leases], lease_seconds=self._lease_seconds)
        except TransientError as error:
            log.warning("leases could not be renewed: %s", error.message)
            return
        for lease in leases:
            if lease.item.id not in renewal.held:
                lease.take_away(LeaseLost())
            elif lease.item.id in renewal.cancelled:
                lease.take_away(ItemCancelled())
