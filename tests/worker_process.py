"""A worker in a process of its own, to be killed, frozen and asked to leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY
from tests.servers import end_with_parent


class WorkerProcess:
    """`celery -A … worker --pool=solo`, in a process group of its own so that Ctrl-C reaches the tests first."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        log: Path,
        app: str = "tests.simulated_worker",
        arguments: Sequence[str] = ("--pool=solo",),
    ) -> None:
        """
        Args:
            settings: GLM4V_ variables; none are inherited.
            log: gets its output. The worker is named after it.
        """
        self.settings = settings
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLM4V_")}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", app, "worker", *arguments, "-n", f"{log.stem}@test"],
                cwd=REPOSITORY,
                env={**inherited, "OMP_NUM_THREADS": "1", **settings},
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=end_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        return b" ready." in self.log.read_bytes()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to the worker alone: its children have to notice."""
        self._process.kill()
        self._process.wait()

    def terminate(self, *, seconds: float, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end. Returns the exit code; raises when it takes longer than `seconds`."""
        self._process.send_signal(with_signal)
        return self._process.wait(seconds)

    def freeze(self) -> None:
        for process in self.family():
            process.suspend()

    def thaw(self) -> None:
        for process in self.family():
            process.resume()

    def family(self) -> list[psutil.Process]:
        """The worker and its children."""
        worker = psutil.Process(self.pid)
        return [worker, *worker.children(recursive=True)]

    def close(self) -> None:
        if self.exit_code is None:
            self.thaw()
            self.kill()
