"""Puts rows and messages right every few seconds: there is no other scheduler, and no failure needs another cure."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from worker.dispatch import Dispatcher
from worker.errors import DatabaseUnavailable, TransientError
from worker.metrics import Metrics
from worker.records import QueueDepth
from worker.repository import Repository
from worker.settings import Settings

log = logging.getLogger(__name__)


class Reconciler:
    """Any number of processes may run one; the database lets one at a time change rows."""

    def __init__(
        self,
        repository: Repository,
        dispatcher: Dispatcher,
        settings: Settings,
        *,
        metrics: Metrics,
        chores: Sequence[Callable[[], None]] = (),
    ) -> None:
        """
        Args:
            chores: called before each pass; when one fails, the others and the pass are none the worse.
        """
        self._repository = repository
        self._dispatcher = dispatcher
        self._settings = settings
        self._metrics = metrics
        self._steps = (*chores, self.run_once)
        self._depth: QueueDepth | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def messages_wait(self) -> bool:
        """Whether, at the last look, items of this worker's model had a message that nobody had taken up."""
        return self._depth is not None and self._depth.dispatched > 0

    def run_once(self) -> None:
        """One pass: expired leases, due retries, lost messages, then messages for all that waits.

        Raises:
            TransientError: the database or the broker did not answer; the next pass does what is left.
        """
        depths = self._repository.queue_depths()
        self._show(depths)
        reconciled = self._repository.reconcile(
            max_attempts=self._settings.max_attempts,
            redeliver_after=self._redeliver_after(depths),
        )
        if reconciled is None:
            return
        self._metrics.observe_reconciled(reconciled)
        for model in {depth.model for depth in depths}:
            self._dispatcher.fill(model)

    def _redeliver_after(self, depths: list[QueueDepth]) -> dict[str, float]:
        ages = {depth.model: self._patience(depth.model) for depth in depths if depth.dispatched}
        return {model: seconds for model, seconds in ages.items() if seconds is not None}

    def _patience(self, model: str) -> float | None:
        """Seconds after which an unclaimed message counts as lost; None while more messages would be of no use."""
        waiting = self._dispatcher.waiting_messages(model)
        if waiting == 0:
            # It was taken, then: a worker claims what it takes at once, unless worker and message are gone together.
            return 2 * self._settings.reconcile_interval_seconds
        if waiting >= self._settings.outstanding_messages_per_queue:
            return None
        return self._settings.redeliver_after_seconds

    def _show(self, depths: list[QueueDepth]) -> None:
        own = (depth for depth in depths if depth.model == self._settings.model)
        self._depth = next(own, None)
        self._metrics.observe_queue(self._depth)

    def _run(self) -> None:
        pause = self._settings.reconcile_interval_seconds
        while not self._stopped.wait(pause):
            pause = max(self._take(step) for step in self._steps)

    def _take(self, step: Callable[[], None]) -> float:
        """Returns the seconds to wait before the next pass."""
        pause = self._settings.reconcile_interval_seconds
        try:
            step()
        except DatabaseUnavailable as error:
            # Leases have run out while nobody could renew them: let their holders do so first.
            pause = max(pause, self._settings.lease_seconds / 2)
            log.warning("upkeep is tried again: %s", error.message)
        except TransientError as error:
            log.warning("upkeep is tried again: %s", error.message)
        except Exception:
            log.exception("upkeep failed, and is tried again")
        return pause
