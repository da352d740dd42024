"""What a worker counts for Prometheus. Every label takes few and fixed values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.records import Failed, Outcome, QueueDepth, Reconciled, Released, Retry, Succeeded

#: Seconds: from a look into the database to the download of a film.
_STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._items = Counter("glm4v_items", "Attempts at items that ended", ["outcome", "code"], registry=registry)
        self._tokens = Counter("glm4v_item_tokens", "Visual tokens of succeeded items", registry=registry)
        self._reused = Counter("glm4v_items_reused", "Items whose embedding was stored already", registry=registry)
        self._stages = Histogram(
            "glm4v_stage_seconds",
            "Time one item spends in one stage",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self._published = Counter("glm4v_items_published", "Items sent to the broker", registry=registry)
        self._reconciled = Counter(
            "glm4v_items_reconciled", "Items that reconciling put right", ["what"], registry=registry
        )
        self._deleted = Counter(
            "glm4v_embeddings_deleted", "Embeddings that nothing referred to any more", registry=registry
        )
        self._queue = Gauge("glm4v_queue_items", "Unfinished items of this model", ["state"], registry=registry)
        self._oldest = Gauge("glm4v_queue_oldest_seconds", "Age of the oldest item that waits", registry=registry)

    def observe(self, outcome: Outcome) -> None:
        """Count an outcome that was recorded."""
        match outcome:
            case Succeeded(embedding=embedding, timings=timings):
                self._items.labels("succeeded", "").inc()
                self._tokens.inc(embedding.num_tokens)
                self._reused.inc(embedding.id is not None)
            case Failed(code=code, timings=timings):
                self._items.labels("failed", code).inc()
            case Retry(code=code, timings=timings):
                self._items.labels("retried", code).inc()
            case Released():
                self._items.labels("released", "").inc()
                return
        for stage, seconds in timings.items():
            self._stages.labels(stage).observe(seconds)

    def observe_reconciled(self, reconciled: Reconciled) -> None:
        for what, items in asdict(reconciled).items():
            self._reconciled.labels(what).inc(items)

    def observe_deleted(self, embeddings: int) -> None:
        self._deleted.inc(embeddings)

    def observe_published(self, items: int) -> None:
        self._published.inc(items)

    def observe_queue(self, depth: QueueDepth | None) -> None:
        """Show how much work waits; None: no job of this model is unfinished."""
        self._queue.labels("queued").set(depth.queued if depth else 0)
        self._queue.labels("dispatched").set(depth.dispatched if depth else 0)
        self._queue.labels("running").set(depth.running if depth else 0)
        self._oldest.set(depth.oldest_seconds or 0 if depth else 0)

    def watch_engine(self, statistics: Callable[[], EngineTotals]) -> None:
        """Show the engine's totals whenever the page is asked for."""
        self.registry.register(_EngineCollector(statistics))

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Show a number that is asked for whenever the page is."""
        Gauge(name, about, registry=self.registry).set_function(value)

    def serve(self, port: int) -> Callable[[], None]:
        """Serve the page on a thread. Returns what ends it."""
        server, _thread = start_http_server(port, registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()

        return close


class EngineTotals(Protocol):
    """worker.engine.EngineStatistics; an API that counts its requests here needs no engine."""

    @property
    def forwards(self) -> int: ...
    @property
    def patches(self) -> int: ...
    @property
    def room(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def busy_seconds(self) -> float: ...
    @property
    def out_of_memory(self) -> int: ...
    @property
    def failures(self) -> int: ...


class _EngineCollector(Collector):
    def __init__(self, statistics: Callable[[], EngineTotals]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        totals = self._statistics()
        counters = {
            "glm4v_forwards": ("Forward passes", totals.forwards),
            "glm4v_patches": ("Patches encoded", totals.patches),
            "glm4v_patch_room": (
                "Patches that the forwards had room for: patches over this is the batch fill",
                totals.room,
            ),
            "glm4v_tokens": ("Visual tokens encoded", totals.tokens),
            "glm4v_device_busy_seconds": ("Time during which the device had a batch", totals.busy_seconds),
            "glm4v_out_of_memory": ("Batches that did not fit into the device's memory", totals.out_of_memory),
            "glm4v_forward_failures": ("Batches that failed for another reason", totals.failures),
        }
        for name, (about, value) in counters.items():
            yield CounterMetricFamily(name, about, value=value)
