"""What runs in a worker process beside Celery's event loop, put together, started and stopped in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from worker.celery import EmbedApp
from worker.dispatch import Dispatcher
from worker.intake import MessageThreads, Window
from worker.metrics import Metrics
from worker.presence import Presence
from worker.reconcile import Reconciler
from worker.records import Outcome, Retry
from worker.retention import Retention
from worker.watchdog import Watchdog

#: Seconds between two lots of items that find out whether the store is back.
_OUTAGE_PAUSE_SECONDS = 5.0

#: Seconds for acknowledging messages whose items are already recorded or given back.
_ACKNOWLEDGE_SECONDS = 2.0


class Service:
    """The runtime that embeds, the threads that messages run on, and those who look after the queue and the process."""

    def __init__(self, app: EmbedApp, *, wake: Callable[[], None], end: Callable[[], None]) -> None:
        """
        Args:
            wake: makes the event loop look whether there is room for another message.
            end: begins the end of the process.
        """
        settings = app.settings
        self.metrics = Metrics()
        self.window = Window(settings.item_threads, on_room=wake)
        self.threads = MessageThreads(self.window, threads=settings.item_threads)
        self.runtime = app.build_runtime(observe=self._observe)
        dispatcher = Dispatcher(app, self.runtime.repository, observe=self.metrics.observe_published)
        self._presence = Presence(self.runtime)
        retention = Retention(
            self.runtime.repository,
            lambda: self.runtime.pipeline.storage,
            settings,
            observe=self.metrics.observe_deleted,
        )
        self._reconciler = Reconciler(
            self.runtime.repository,
            dispatcher,
            settings,
            metrics=self.metrics,
            chores=(self._presence.beat, retention.run_once),
        )
        self._watchdog = Watchdog(
            stall_seconds=settings.stall_seconds,
            activity=self._activity,
            work_waits=lambda: len(self.window) > 0 or self._reconciler.messages_wait,
            broken=lambda: self.runtime.engine.broken,
            end=end,
        )
        self._metrics_port = settings.metrics_port
        self._finished = 0
        self._started = ExitStack()

    def start(self) -> None:
        """Return when items can be embedded.

        Raises:
            EmbedError: a setting, the model, the database or the store makes that impossible.
        """
        if self._metrics_port is not None:
            self._started.callback(self.metrics.serve(self._metrics_port))
        # Before the model, which takes minutes: without tables it would be loaded in vain.
        self.runtime.repository.check()
        self.runtime.start()
        self.metrics.watch_engine(self.runtime.engine.statistics)
        self.metrics.watch("glm4v_items_held", "Items whose messages this worker holds", lambda: len(self.window))
        self._presence.beat()
        self._reconciler.start()
        self._started.callback(self._reconciler.stop)
        self._watchdog.start()
        self._started.callback(self._watchdog.stop)

    def stop(self, drain_seconds: float) -> None:
        """Take up no more messages, finish what is decoded within the time given, and give the rest back."""
        self._started.close()
        self._presence.leave()
        self.threads.close()
        self.runtime.stop(drain_seconds)
        self.threads.join(_ACKNOWLEDGE_SECONDS)

    def _observe(self, outcome: Outcome) -> None:
        self.metrics.observe(outcome)
        self._presence.observe(outcome)
        if isinstance(outcome, Retry) and not outcome.charged:
            self.window.close_for(_OUTAGE_PAUSE_SECONDS)
        self.window.let_go([outcome.item.id])
        self._finished += 1

    def _activity(self) -> object:
        # A clip of hours finishes no item for long, but its pieces go through the encoder.
        return self._finished, self.runtime.engine.statistics().forwards
