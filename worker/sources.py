"""The references of one command, in order, however many: kept in a nameless file and not in memory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import quote


class SourceList:
    """References that can be gone through more than once."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._digest = hashlib.sha256()
        self._count = 0
        for source in sources:
            # As JSON, because a file's name may hold a line break.
            line = json.dumps(as_text(source)) + "\n"
            self._file.write(line)
            self._digest.update(line.encode())
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    @property
    def digest(self) -> str:
        """Hex digest: equal for equal references in equal order."""
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


def read_lines(file: TextIO) -> Iterator[str]:
    """One reference a line; empty lines are left out."""
    for line in file:
        source = line.rstrip("\r\n")
        if source.strip():
            yield source


def as_text(source: str) -> str:
    """A reference that every database and every JSON reader takes.

    A file name of bytes that are no UTF-8 becomes a file:// URL, which spells them out.
    """
    try:
        source.encode()
    except UnicodeEncodeError:
        return f"file://{quote(os.fsencode(Path(source).absolute()))}"
    return source
