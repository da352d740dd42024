"""Where artefacts are kept: one small interface over a directory and an S3 bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from typing_extensions import Buffer

from worker.settings import Settings

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    size: int  #: bytes
    modified_at: datetime


class ObjectWriter(Protocol):
    """An object on its way in. Its bytes are visible under its key only after the `with` block ended well."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes written so far."""

    def write(self, data: Buffer, /) -> None: ...


class Storage(Protocol):
    """A flat space of objects named by keys such as `embeddings/ab/cd.safetensors`.

    Every method raises StorageUnavailable, StorageForbidden or StorageFull when the store fails, and ValueError for a
    key that is not made of plain names and slashes.
    """

    def writer(self, key: str) -> AbstractContextManager[ObjectWriter]:
        """Store an object; nothing of it stays behind when the block raises."""

    def open(self, key: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """Read an object, or `length` bytes of it from `start`. Close it after use.

        Raises:
            ObjectMissing: there is no such object.
        """

    def size(self, key: str) -> int | None:
        """Bytes of an object; None when there is none."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object whose key begins with `prefix`: a key, or the start of one without its last slash."""

    def presigned_url(self, key: str, *, expires_seconds: int) -> str | None:
        """A URL that anyone may read the object at for a while; None where the store has no such thing."""


def open_storage(url: str, settings: Settings) -> Storage:
    """The store that a URL names: `s3://bucket?endpoint=...` or `file:///directory`.

    Raises:
        InvalidSettings: the URL makes no sense.
        StorageUnavailable, StorageForbidden: the bucket cannot be reached or made.
    """
    # Each kind of store brings its own libraries; a process loads those of the one it uses.
    if url.startswith("s3://"):
        from worker.minio_storage import MinioStorage, connect

        client, bucket = connect(url, settings)
        return MinioStorage(client, bucket, part_bytes=settings.store_part_bytes)
    from worker.directory_storage import DirectoryStorage

    return DirectoryStorage(Path(unquote(urlsplit(url).path)))


def check_key(key: str) -> str:
    """Refuse a key that could climb out of a directory or hide in one."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key: use names of letters, digits, '.', '_' and '-', separated by '/'")
    return key
