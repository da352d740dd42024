"""From a reference to its bytes in a file of this machine, within limits, and to the digest of those bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote_to_bytes, urlsplit

from worker.errors import (
    EmptyFile,
    Forbidden,
    ForbiddenPath,
    IsADirectory,
    NotFound,
    SourceChanged,
    SourceUnreadable,
    StorageFull,
    TooLarge,
    UnsupportedSource,
)

#: Bytes by which a format is told.
_HEAD = 32


@dataclass(frozen=True, kw_only=True)
class Media:
    """The bytes of one reference, until the `with` block that fetched them ends."""

    #: Opens these very bytes, also in a child process, whatever happens to the name they came from.
    path: Path
    #: Its first bytes, which tell what it is.
    head: bytes
    #: Hex digest.
    sha256: str
    size: int
    _file: FileIO
    _identity: tuple[int, int]

    def check_unchanged(self) -> None:
        """Call after the bytes were used, before anything is stored under their digest.

        Raises:
            SourceChanged: they were written to since they were hashed.
        """
        if _identity(os.fstat(self._file.fileno())) != self._identity:
            raise SourceChanged


class Body(Protocol):
    """The bytes of a remote reference as they arrive."""

    @property
    def announced_bytes(self) -> int | None:
        """What the sender says it will send, if it says so."""
        ...

    def chunks(self) -> Iterable[bytes]: ...


class RemoteReader(Protocol):
    """Opens the references of one scheme; raises the reasons of worker.errors, its own library's mapped to them."""

    def open(self, source: str) -> AbstractContextManager[Body]: ...


class Fetcher:
    """Fetches references of every scheme. Safe to use from many threads."""

    def __init__(
        self,
        *,
        remote: dict[str, RemoteReader],
        file_roots: tuple[Path, ...] | None,
        max_bytes: int,
        scratch_directory: Path | None = None,
    ) -> None:
        """
        Args:
            remote: by scheme, what opens it.
            file_roots: the folders that local files must lie in; None allows any path.
        """
        self._remote = remote
        self._file_roots = None if file_roots is None else tuple(root.resolve() for root in file_roots)
        self._max_bytes = max_bytes
        self._scratch_directory = scratch_directory

    @contextmanager
    def fetch(self, source: str, *, check: Callable[[], None]) -> Iterator[Media]:
        """Have the bytes of a reference at hand for the length of a `with` block.

        Args:
            check: called during a download; raises when nobody wants it any more.

        Raises:
            EmbedError: any of the reasons in worker.errors for which a reference cannot be fetched.
        """
        scheme = source.partition("://")[0].lower() if "://" in source else "file"
        if scheme == "file":
            opened = self._open_local(local_path(source))
        elif scheme in self._remote:
            opened = self._download(self._remote[scheme], source, check)
        else:
            raise UnsupportedSource(f"{scheme}:// cannot be read: use http(s)://, s3://bucket/key, file:// or a path.")
        with opened as media:
            yield media

    @contextmanager
    def _open_local(self, path: Path) -> Iterator[Media]:
        # Of a path outside nothing is told, not even whether it exists.
        self._check_roots(path)
        with _open_regular(path) as file:
            # Asked again of the open file: a link may have been swapped in between.
            self._check_roots(Path(f"/proc/self/fd/{file.fileno()}"))
            status = os.fstat(file.fileno())
            self._check_size(status.st_size)
            with _read_errors():
                digest = hashlib.file_digest(file, "sha256")
            yield _media(file, digest.hexdigest(), _identity(status))

    @contextmanager
    def _download(self, reader: RemoteReader, source: str, check: Callable[[], None]) -> Iterator[Media]:
        # The file has no name, so that a killed worker leaves nothing behind.
        with tempfile.TemporaryFile(dir=self._scratch_directory, buffering=0) as file:
            with reader.open(source) as body:
                self._check_size(body.announced_bytes)
                sha256 = self._save(body, file, check)
            yield _media(file, sha256, _identity(os.fstat(file.fileno())))

    def _save(self, body: Body, file: FileIO, check: Callable[[], None]) -> str:
        digest, size = hashlib.sha256(), 0
        for chunk in body.chunks():
            check()
            size += len(chunk)
            self._check_size(size)
            digest.update(chunk)
            _write(file, chunk)
        self._check_size(size)
        return digest.hexdigest()

    def _check_roots(self, path: Path) -> None:
        if self._file_roots is None:
            return
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            raise ForbiddenPath from error
        if not any(real.is_relative_to(root) for root in self._file_roots):
            raise ForbiddenPath

    def _check_size(self, size: int | None) -> None:
        if size == 0:
            raise EmptyFile
        if size is not None and size > self._max_bytes:
            raise TooLarge(
                f"The source has {size:,} bytes or more, and {self._max_bytes:,} are allowed:"
                " shrink it or raise GLM4V_MAX_SOURCE_BYTES."
            )


def local_path(source: str) -> Path:
    """The path that a plain path or a file:// URL means.

    Raises:
        UnsupportedSource: the URL names another machine, or the path holds a NUL.
    """
    path = source
    if "://" in source:
        url = urlsplit(source)
        if url.netloc not in ("", "localhost"):
            raise UnsupportedSource(
                f"file://{url.netloc}/ names a host: write file:///path for a file of this machine."
            )
        path = os.fsdecode(unquote_to_bytes(url.path))
    if not path or "\0" in path:
        raise UnsupportedSource("The path is empty or holds a NUL character: give the path of a file.")
    return Path(path)


@contextmanager
def _open_regular(path: Path) -> Iterator[FileIO]:
    try:
        # A named pipe would otherwise keep this thread waiting for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _open_error(path, error) from error
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
        with FileIO(descriptor, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectory(f"{path} is a directory: name the files in it, for example {path}/*.")
    if not stat.S_ISREG(mode):
        raise UnsupportedSource(f"{path} is not a regular file but a pipe, a socket or a device.")


def _open_error(path: Path, error: OSError) -> NotFound | Forbidden | UnsupportedSource | SourceUnreadable:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFound(f"There is no file {path}: check the path.")
    if isinstance(error, PermissionError):
        return Forbidden(f"{path} may not be read: give this user read access to it.")
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO):
        return UnsupportedSource(f"{path} cannot be opened: {error.strerror}.")
    return SourceUnreadable(f"{path} cannot be opened: {error.strerror}.")


@contextmanager
def _read_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnreadable(f"The file could not be read to its end: {error.strerror}.") from error


def _write(file: FileIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise StorageFull(
            f"A download cannot be kept on this machine ({error.strerror}): free space in its folder for"
            " temporary files, or set GLM4V_SCRATCH_DIRECTORY."
        ) from error


def _media(file: FileIO, sha256: str, identity: tuple[int, int]) -> Media:
    return Media(
        path=Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"),
        head=os.pread(file.fileno(), _HEAD, 0),
        sha256=sha256,
        size=identity[0],
        _file=file,
        _identity=identity,
    )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
