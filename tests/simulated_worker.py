"""A worker with a simulated encoder: `celery -A tests.simulated_worker worker --pool=solo`, GLM4V_TEST_ variables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

_CLOCK_OFFSET = float(os.environ.get("GLM4V_TEST_CLOCK_OFFSET", "0"))
if _CLOCK_OFFSET:
    # Before anything keeps its own reference to it.
    _true_time = time.time
    time.time = lambda: _true_time() + _CLOCK_OFFSET

from tests.encoders import NullEncoder, SimulatedEncoder  # noqa: E402
from worker.celery import EmbedApp, settings_or_exit  # noqa: E402
from worker.encoding import Encoder  # noqa: E402
from worker.records import Outcome  # noqa: E402
from worker.settings import Settings  # noqa: E402

if TYPE_CHECKING:
    from worker.runtime import Runtime


class SimulatedApp(EmbedApp):
    def build_runtime(self, *, observe: Callable[[Outcome], None]) -> Runtime:
        from worker.runtime import Runtime

        return Runtime(self.settings, observe=observe, load=load_encoder)


def load_encoder(settings: Settings) -> Encoder:
    if "GLM4V_TEST_NULL_DIM" in os.environ:
        return NullEncoder(int(os.environ["GLM4V_TEST_NULL_DIM"]))
    return SimulatedEncoder(
        batch_seconds=float(os.environ.get("GLM4V_TEST_BATCH_SECONDS", "0")),
        item_seconds=float(os.environ.get("GLM4V_TEST_ITEM_SECONDS", "0")),
        deadly="GLM4V_TEST_DEADLY" in os.environ,
        hangs="GLM4V_TEST_HANGS" in os.environ,
    )


app = SimulatedApp(settings_or_exit)
