"""`glm4v worker`: Celery's worker with the flags that ours needs, in this process, which gets the signals."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from rich.markup import escape

from worker.errors import InvalidSettings
from worker.settings import Settings, load_settings
from worker.terminal import USAGE, messages


def work(chosen: Mapping[str, str], *, name: str | None, arguments: Sequence[str]) -> int:
    """Run a worker until it is told to stop.

    Args:
        chosen: GLM4V_ variables that win over the environment's; the worker's children read them too.
        arguments: more for Celery.

    Returns:
        The exit code.
    """
    os.environ.update(chosen)
    try:
        load_settings(Settings).require_broker_url()
    except InvalidSettings as error:
        messages().print(f"[red]error[/]: {escape(error.message)}")
        return USAGE
    # Not before the settings are known to be good: it brings Celery along, and reads them.
    from worker.celery import app

    named = [] if name is None else ["--hostname", name if "@" in name else f"{name}@{socket.gethostname()}"]
    app.worker_main(["worker", "--pool=solo", *named, *arguments])
    return 0
