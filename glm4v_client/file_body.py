"""A local file as the body of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

_CHUNK_BYTES = 256 * 1024


class FileBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Read anew each time that the request is sent; both kinds of httpx client take it.

    Raises:
        OSError: there is no such file, or it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def size(self) -> int:
        """Bytes, as of now: a file that was still being written may be whole at the next attempt."""
        return self._path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Takes a tenth of the client's import, and blocking programs have no use for it.
        import asyncio

        with self._path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                yield chunk
