"""The services of docker-compose.yml as plain processes: command, environment and health check, without Docker."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from tests.compose import compose, image_command
from tests.conftest import REPOSITORY
from tests.servers import end_with_parent, free_port

PATIENCE_SECONDS = 120.0


class Service:
    """A service of docker-compose.yml, to be run as a process."""

    def __init__(
        self, definition: Mapping[str, Any], command: Sequence[str], settings: Mapping[str, str], log: Path
    ) -> None:
        """
        Args:
            settings: win over the service's own environment.
        """
        self.definition = definition
        self.command = list(command)
        self.log = log
        bin_folder = str(Path(sys.executable).parent)
        self.environment = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "HOSTNAME": socket.gethostname(),
            "OMP_NUM_THREADS": "1",
            **definition["environment"],
            **settings,
        }

    def run(self, command: Sequence[str] | None = None) -> int:
        """Run its command, or another in its environment, to the end. Returns the exit code."""
        with self.log.open("ab") as log:
            return subprocess.run(command or self.command, timeout=PATIENCE_SECONDS, **self._process(log)).returncode

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, process_group=0, preexec_fn=end_with_parent, **self._process(log))

    def is_healthy(self) -> bool:
        kind, *check = self.definition["healthcheck"]["test"]
        return self.run(["sh", "-c", *check] if kind == "CMD-SHELL" else check) == 0

    def _process(self, log: Any) -> dict[str, Any]:
        return {"cwd": REPOSITORY, "env": self.environment, "stdout": log, "stderr": log}


class Stack:
    """The services of docker-compose.yml, whose addresses are replaced by the tests' own."""

    def __init__(self, folder: Path, variables: Mapping[str, str], addresses: Mapping[str, str]) -> None:
        self.port, self._metrics_port = free_port(), free_port()
        self._folder = folder
        self._services = compose(variables=variables)
        self._addresses = addresses
        self._running = ExitStack()

    def service(self, name: str) -> Service:
        definition = with_port(self._services[name], "8000", self.port)
        command = definition.get("command") or image_command(name)
        moved = {**self._addresses, "GLM4V_SCRATCH_DIRECTORY": str(self._folder)}
        moved |= {"GLM4V_METRICS_PORT": str(self._metrics_port)}
        settings = {variable: value for variable, value in moved.items() if variable in definition["environment"]}
        return Service(definition, with_port(command, "8000", self.port), settings, self._folder / f"{name}.log")

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service and return once its health check passes."""
        service = self.service(name)
        process = service.start()
        self._running.callback(end, process)
        wait_until(lambda: process.poll() is not None or service.is_healthy(), service.log)
        assert process.poll() is None, service.log.read_text()
        return process

    def close(self) -> None:
        self._running.close()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def with_port(value: Any, port: str, other: int) -> Any:
    """The same with another port, wherever it stands."""
    return yaml.safe_load(re.sub(rf"\b{port}\b", str(other), yaml.safe_dump(value)))


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
