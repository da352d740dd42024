"""`glm4v` in processes of its own, as somebody at a shell uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.servers import end_with_parent

GLM4V = Path(sys.executable).parent / "glm4v"

#: A command that takes longer hangs.
_SECONDS = 300


class Glm4v:
    """Commands given in one folder, with GLM4V_ variables of their own and none of the developer's."""

    def __init__(self, folder: Path, **variables: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLM4V_")}
        self.folder = folder
        self.environment = {**inherited, "OMP_NUM_THREADS": "1", **variables}

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GLM4V, *arguments],
            **{
                "cwd": self.folder,
                "env": self.environment,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "preexec_fn": end_with_parent,
                **options,
            },
        )

    def run(self, *arguments: str | Path, text_input: str | None = None) -> tuple[int, str, str]:
        """The exit code, what is on stdout and what on stderr."""
        stdin = subprocess.DEVNULL if text_input is None else subprocess.PIPE
        process = self.start(*arguments, stdin=stdin)
        out, err = process.communicate(text_input, timeout=_SECONDS)
        return process.returncode, out, err

    def json(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """What a command that prints JSON prints, an object a line; items that failed are no fault of its own."""
        code, out, err = self.run(*arguments, "--json")
        assert code in (0, 1), err
        return [json.loads(line) for line in out.splitlines()]


class ServeProcess:
    """`glm4v serve` on a folder, to be killed and started again at the same URL."""

    def __init__(self, commands: Glm4v, *arguments: str | Path) -> None:
        self._commands = commands
        self._arguments = arguments
        self.log = commands.folder / "serve.log"
        self.url = self._start("0")

    def restart(self) -> None:
        assert self._start(self.url.rpartition(":")[2]) == self.url

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end. Returns its exit code."""
        self._process.send_signal(with_signal)
        return self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self, port: str) -> str:
        with self.log.open("ab") as log:
            self._process = self._commands.start("serve", "--port", port, *self._arguments, stderr=log)
        assert self._process.stdout is not None
        # It says where it is once it answers; a line that never comes is the end of the process.
        url = self._process.stdout.readline().strip()
        assert url, self.log.read_text()
        return url

    def _end(self) -> int:
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.wait(_SECONDS)

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()


def photos(folder: Path, count: int, *, edge: int = 112) -> list[Path]:
    """Small pictures, no two alike."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"photo-{number:03d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
