"""`glm4v serve` in a process of its own: API, status page and worker in one folder, with random weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import end_with_parent

GLM4V = Path(sys.executable).parent / "glm4v"


@contextmanager
def serving(folder: Path, *, file_roots: Path) -> Iterator[str]:
    """The URL of a service that answers, for the length of the block.

    Args:
        file_roots: where file:// sources may lie.
    """
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [GLM4V, "serve", "--out", folder / "out", "--port", "0", "--device", "cpu"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "GLM4V_FILE_ROOTS": str(file_roots), "OMP_NUM_THREADS": "1"},
            preexec_fn=end_with_parent,
        )
    assert process.stdout is not None
    try:
        # It says where it is once it answers; a line that never comes is the end of the process.
        url = process.stdout.readline().strip()
        assert url, (folder / "serve.log").read_text()
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
