"""The fetcher that a process's settings ask for: which references it may read, how, and within which limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from worker.bucket import BucketReader
from worker.download import Downloader
from worker.media import Fetcher, RemoteReader
from worker.settings import Settings


@contextmanager
def open_fetcher(settings: Settings, *, any_path: bool = False) -> Iterator[Fetcher]:
    """A fetcher, for the length of a `with` block.

    Args:
        any_path: let references name any local file, as on the command line of the file's own user.

    Raises:
        InvalidSettings: the URL of the sources' store makes no sense.
    """
    downloader = Downloader(
        allow_private=settings.allow_private_addresses,
        max_redirects=settings.max_redirects,
        timeout_seconds=settings.fetch_timeout_seconds,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
    )
    with closing(downloader):
        yield Fetcher(
            remote={"http": downloader, "https": downloader, **_bucket_reader(settings)},
            file_roots=None if any_path else settings.source_roots,
            max_bytes=settings.max_source_bytes,
            scratch_directory=settings.scratch_directory,
        )


def _bucket_reader(settings: Settings) -> dict[str, RemoteReader]:
    url = settings.s3_source_url or settings.store_url
    if not url.startswith("s3://"):
        return {}
    from worker.minio_storage import connect

    client, _bucket = connect(url, settings)
    return {"s3": BucketReader(client, timeout_seconds=settings.fetch_timeout_seconds)}
