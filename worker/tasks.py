"""The worker's own part of Celery: the task in every message, and the step that starts and stops the service."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import click
from celery import Celery, Task, bootsteps, shared_task, signals
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import CPendingDeprecationWarning, Reject
from celery.worker import WorkController, state
from celery.worker.components import Hub, Pool
from celery.worker.consumer import Consumer
from celery.worker.strategy import default

from worker.celery import EMBED
from worker.errors import EmbedError, TransientError
from worker.intake import OnThreads
from worker.service import Service

log = logging.getLogger(__name__)


class EmbedTask(Task):  # type: ignore[misc] # Celery ships no types
    """Celery's task, run on threads beside the event loop."""

    service: Service

    def start_strategy(self, app: Celery, consumer: Consumer, **_: object) -> Any:
        self.service = consumer.controller.service
        return default(self, app, OnThreads(consumer, self.service.threads))


@shared_task(name=EMBED, base=EmbedTask, bind=True)  # type: ignore[untyped-decorator] # as above
def embed(self: EmbedTask, item_ids: list[int], *, alone: bool = False) -> None:
    """Embed the items of one message. Their rows decide which of them still want it."""
    try:
        self.service.runtime.process(item_ids, alone=alone)
    except TransientError as error:
        raise Reject(error.message, requeue=True) from error
    if self.service.threads.is_closed:
        # Some of its items may have been given back: whoever gets the message next finds out which.
        raise Reject("the worker is stopping", requeue=True)


class ServiceStep(bootsteps.StartStopStep):  # type: ignore[misc] # as above
    """Loads the model before the first message, and ends the work while the event loop can still acknowledge it."""

    requires = (Hub, Pool)

    def create(self, worker: WorkController) -> None:
        if worker.pool_cls is not SoloPool:
            raise click.ClickException("run it with --pool=solo: one process owns one device, and CUDA cannot fork")
        # At every lost connection Celery says at length that a default will change.
        warnings.simplefilter("ignore", CPendingDeprecationWarning)
        # Any callback wakes the event loop.
        worker.service = Service(worker.app, wake=lambda: worker.hub.call_soon(bool), end=lambda: _end(worker))

    def start(self, worker: WorkController) -> None:
        try:
            worker.service.start()
        except EmbedError as error:
            log.critical("%s", error.message)
            raise SystemExit(1) from error

    def stop(self, worker: WorkController) -> None:
        # By now Celery has cancelled its consumer: nothing more comes in.
        worker.service.stop(worker.app.settings.drain_seconds)

    def terminate(self, worker: WorkController) -> None:
        worker.service.stop(0)


def _end(worker: WorkController) -> None:
    """What a signal's handler does, from any thread, with the exit code of a failure."""
    state.should_stop = 1
    worker.hub.call_soon(bool)


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator] # as above
def _leave(sender: WorkController, **_: object) -> None:
    """End the process now: a thread that still waits for a stranger's socket would keep the interpreter from ending."""
    logging.shutdown()
    os._exit(sender.exitcode or 0)
