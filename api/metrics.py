"""What the API counts for Prometheus. Every label takes few and fixed values."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Seconds: a progress question takes milliseconds, deleting a job of millions takes minutes.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})


class ApiMetrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "glm4v_api_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "glm4v_api_request_seconds",
            "Time until a request was answered to its last byte; without streams of events",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.watchers = Gauge("glm4v_api_event_streams", "Streams of events that are open", registry=registry)

    def observe(self, *, route: str, method: str, status: int, seconds: float, is_stream: bool) -> None:
        """Count an answer.

        Args:
            route: the template of its path, not the path.
            is_stream: it lasted as long as its client liked.
        """
        self._requests.labels(route, method if method in _METHODS else "other", f"{status // 100}xx").inc()
        if not is_stream:
            self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        """The numbers as Prometheus reads them."""
        return generate_latest(self.registry)
