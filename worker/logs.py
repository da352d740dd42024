"""What the worker writes to stderr: one line an event, for a person or for a log collector.

2026-11-23 10:15:02.345 WARNING worker.pipeline: the host did not answer  [job 0192… item 17 attempt 2]
{"time": "2026-11-23T10:15:02.345+00:00", "level": "warning", "logger": "worker.pipeline", "message": "…", "item": 17}
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from worker.records import ClaimedItem
from worker.settings import Settings

#: What the lines of this thread are about.
_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default={})  # noqa: B039 - it is never written to

#: They announce each message, several lines of them: at hundreds a second the news would be lost among them.
_CHATTY = ("celery.app.trace", "celery.worker.strategy", "kombu.transport", "httpx", "urllib3.connectionpool")


@contextmanager
def about(item: ClaimedItem) -> Iterator[None]:
    """Name the item, its job and the attempt in every line that this thread logs inside the block."""
    with about_named(job=str(item.job_id), item=item.id, attempt=item.attempt):
        yield


@contextmanager
def about_named(**names: object) -> Iterator[None]:
    """Put these names into every line that this thread, or this asyncio task, logs inside the block."""
    token = _context.set(names)
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send everything to `stream`, by default stderr, as GLM4V_LOG_FORMAT and GLM4V_LOG_LEVEL say."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_add_context)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == logging.DEBUG else logging.WARNING)


def _add_context(record: logging.LogRecord) -> bool:
    # On the handler and not in the formatter: it runs in the thread that logs, whose context this is.
    record.context = _context.get()
    return True


class TextFormatter(logging.Formatter):
    """One line for a person; a traceback follows on lines of its own."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        line = super().formatMessage(record)
        context = _context_of(record)
        if not context:
            return line
        return f"{line}  [{' '.join(f'{name} {value}' for name, value in context.items())}]"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, the traceback in it."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context_of(record),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def _context_of(record: logging.LogRecord) -> Mapping[str, object]:
    context: Mapping[str, object] = getattr(record, "context", {})
    return context
