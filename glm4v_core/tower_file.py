"""A tower's weights file while it is being copied: in parts, by several connections, again and again if need be."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from glm4v_core.shards import Shards
from glm4v_core.tower_plan import Part, TowerPlan
from glm4v_core.weights import WEIGHTS_NAME, CheckpointError

_CHUNK_BYTES = 2**20


class TowerFile:
    """`model.safetensors` in the making.

    The parts that are whole are noted in a journal beside it, each with its digest: a later run believes the digest
    and not the note, so that neither a power cut nor a full disk leaves wrong bytes behind.
    """

    def __init__(self, plan: TowerPlan, directory: Path) -> None:
        self._plan = plan
        self._final = directory / WEIGHTS_NAME
        self._incomplete = directory / f"{WEIGHTS_NAME}.incomplete"
        self._journal = directory / f"{WEIGHTS_NAME}.parts"
        self._noting = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises CheckpointError when another process copies into the same directory."""
        with self._incomplete.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(f"another process is fetching into {self._final.parent}: wait for it") from error
            yield

    def begin(self) -> list[Part]:
        """Make the file, or find what an earlier run has made of it. Returns the parts that are missing.

        Raises:
            CheckpointError: the disk has no room for it.
        """
        done = self._finished_parts()
        if not done:
            self._start_anew()
        return [part for part in self._plan.parts() if part.target not in done]

    def copy(self, part: Part, shards: Shards) -> Iterator[int]:
        """Copy one part. Yields the bytes that have come, chunk by chunk."""
        digest = hashlib.sha256()
        with self._incomplete.open("r+b") as file:
            file.seek(part.target)
            for chunk in shards.stream(part.file, part.begin, part.end):
                file.write(chunk)
                digest.update(chunk)
                yield len(chunk)
        with self._noting, self._journal.open("a") as journal:
            journal.write(json.dumps([part.target, digest.hexdigest()]) + "\n")

    def finish(self) -> None:
        """Compare what is on the disk with what came, and give the file its name.

        Raises:
            CheckpointError: the disk holds something else.
        """
        if len(self._finished_parts()) != len(self._plan.parts()):
            raise CheckpointError(f"{self._incomplete} is not what was written to it: check the disk, then try again")
        with self._incomplete.open("rb") as file:
            os.fsync(file.fileno())
        self._incomplete.replace(self._final)
        self._journal.unlink()

    def _start_anew(self) -> None:
        free = shutil.disk_usage(self._final.parent).free
        if free < self._plan.total_bytes:
            raise CheckpointError(
                f"{self._final.parent} has {free / 2**30:.1f} GiB free and needs {self._plan.total_bytes / 2**30:.1f}:"
                " free some space, or choose another place with --out"
            )
        with self._incomplete.open("r+b") as file:
            file.write(self._plan.header)
            file.truncate(self._plan.total_bytes)
        self._journal.write_text(json.dumps(self._plan.digest) + "\n")

    def _finished_parts(self) -> set[int]:
        """Targets of the parts whose bytes on the disk have the digest noted for them."""
        noted = self._noted()
        with self._incomplete.open("rb") as file:
            if file.read(len(self._plan.header)) != self._plan.header:
                return set()
            return {
                part.target
                for part in self._plan.parts()
                if part.target in noted and noted[part.target] == _digest(file, part)
            }

    def _noted(self) -> dict[int, str]:
        lines = self._journal.read_text().splitlines() if self._journal.is_file() else []
        if not lines or lines[0] != json.dumps(self._plan.digest):
            return {}
        # The last line of a run that was killed may be cut.
        return dict(json.loads(line) for line in lines[1:] if line.endswith("]"))


def _digest(file: BinaryIO, part: Part) -> str:
    digest, left = hashlib.sha256(), part.end - part.begin
    file.seek(part.target)
    while data := file.read(min(_CHUNK_BYTES, left)):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()
