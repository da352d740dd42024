"""The Celery app. `celery -A worker worker --pool=solo` finds it here, and so does whoever sends it messages.

It imports no torch: the worker's own parts are in worker.tasks, which only a worker imports.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from celery import Celery, signals
from kombu.entity import Queue

from glm4v_client.states import HIGHEST_PRIORITY
from worker.errors import InvalidSettings
from worker.logs import configure_logging
from worker.records import Outcome
from worker.settings import Settings, load_settings

if TYPE_CHECKING:
    from worker.runtime import Runtime

#: The name of the one task in every message; its argument is a list of item ids.
EMBED = "glm4v.embed"


def queue_name(model: str) -> str:
    """The queue of the workers that run this model."""
    return f"embed.{model}"


def message_priority(priority: int) -> int:
    """Redis serves the smallest number first, jobs the largest."""
    return HIGHEST_PRIORITY - priority


class EmbedApp(Celery):  # type: ignore[misc] # Celery ships no types
    """Celery with our settings."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        """
        Args:
            load: reads the settings, when the first of them is needed.
        """
        super().__init__("glm4v", include=["worker.tasks"], set_as_current=False)
        self._load = load
        self.add_defaults(lambda: configuration(self.settings))
        # By name: only a worker imports them.
        self.steps["worker"].add("worker.tasks:ServiceStep")
        self.steps["consumer"].add("worker.intake:Admission")

    @cached_property
    def settings(self) -> Settings:
        return self._load()

    def build_runtime(self, *, observe: Callable[[Outcome], None]) -> Runtime:
        """What embeds this worker's items; tests and benchmarks put another encoder into it."""
        # It imports torch, which a producer has not got.
        from worker.runtime import Runtime, load_fetched_encoder

        return Runtime(self.settings, observe=observe, load=load_fetched_encoder)


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's configuration, so that its command line needs no flag."""
    queue = queue_name(settings.model)
    return {
        "broker_url": settings.require_broker_url(),
        "broker_transport_options": {
            # Redelivery is worker.reconcile's business: Redis alone would send again what still runs.
            "visibility_timeout": 24 * 3600,
            # A broker that hangs must not hold a thread for ever.
            "socket_timeout": settings.broker_timeout_seconds,
            "socket_connect_timeout": min(5.0, settings.broker_timeout_seconds),
            "socket_keepalive": True,
            # A queue in Redis for each of our priorities; by default there are four.
            "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
            "health_check_interval": settings.broker_timeout_seconds,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_queues": [Queue(queue)],  # type: ignore[no-untyped-call]
        "task_default_queue": queue,
        # Rows decide what is done: a message that is lost or comes twice changes nothing, and nobody reads results.
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_consumer": "worker.consumer:LastingConsumer",
        "worker_pool": "solo",
        # Under solo Celery multiplies by the number of cores otherwise, though one process owns one device.
        "worker_concurrency": 1,
        # No limit of its own: worker.intake counts items, of which messages hold one or many.
        "worker_prefetch_multiplier": 0,
        "worker_enable_prefetch_count_reduction": False,
        "worker_redirect_stdouts": False,
    }


def settings_or_exit() -> Settings:
    """The environment's settings. A mistake in them ends Celery's command with a sentence, not with a traceback."""
    try:
        settings = load_settings(Settings)
        settings.require_broker_url()
    except InvalidSettings as error:
        raise click.ClickException(error.message) from error
    return settings


app = EmbedApp(settings_or_exit)


@signals.setup_logging.connect  # type: ignore[untyped-decorator] # Celery ships no types
def _configure_logging(**_: object) -> None:
    """Keeps Celery from configuring the log its own way."""
    configure_logging(app.settings)
