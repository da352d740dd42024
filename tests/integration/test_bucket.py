from __future__ import annotations

import hashlib
import io
import socket
from collections.abc import Callable

import pytest
from minio import Minio

from tests.servers import S3
from worker.bucket import BucketReader
from worker.errors import (
    EmbedError,
    EmptyFile,
    FetchTimeout,
    Forbidden,
    HostUnreachable,
    NotFound,
    TooLarge,
    UnsupportedSource,
)
from worker.media import Fetcher

BUCKET = "sources"
DATA = bytes(range(256)) * 4000


def nothing() -> None:
    """Everybody still wants it."""


@pytest.fixture(scope="module")
def client(s3: S3) -> Minio:
    client = s3.client()
    client.make_bucket(BUCKET)
    for key, data in {"a folder/ä photo+1.jpg": DATA, "100%25 of it.jpg": DATA, "empty": b""}.items():
        client.put_object(BUCKET, key, io.BytesIO(data), len(data))
    return client


def fetcher(client: Minio, *, seconds: float = 60, max_bytes: int = 2**22) -> Fetcher:
    return Fetcher(remote={"s3": BucketReader(client, timeout_seconds=seconds)}, file_roots=(), max_bytes=max_bytes)


def test_an_object_is_read_by_its_key_as_it_is(client: Minio) -> None:
    for key in ("a folder/ä photo+1.jpg", "100%25 of it.jpg"):
        with fetcher(client).fetch(f"s3://{BUCKET}/{key}", check=nothing) as media:
            assert media.path.read_bytes() == DATA
            assert media.sha256 == hashlib.sha256(DATA).hexdigest()


def stranger(s3: S3) -> Minio:
    return Minio(s3.url.partition("://")[2], access_key="nobody", secret_key="nothing", secure=False)


@pytest.mark.parametrize(
    ("source", "make", "kind"),
    [
        pytest.param(f"s3://{BUCKET}/missing", fetcher, NotFound, id="no such key"),
        pytest.param("s3://no-such-bucket-here/x", fetcher, NotFound, id="no such bucket"),
        pytest.param("s3://x/key", fetcher, UnsupportedSource, id="no possible bucket"),
        pytest.param(f"s3://{BUCKET}", fetcher, UnsupportedSource, id="no key"),
        pytest.param(f"s3://{BUCKET}/empty", fetcher, EmptyFile, id="no bytes"),
        pytest.param(
            f"s3://{BUCKET}/a folder/ä photo+1.jpg",
            lambda client: fetcher(client, max_bytes=1000),
            TooLarge,
            id="too many bytes",
        ),
        pytest.param(
            f"s3://{BUCKET}/a folder/ä photo+1.jpg",
            lambda client: fetcher(client, seconds=0),
            FetchTimeout,
            id="too slow",
        ),
    ],
)
def test_an_object_that_cannot_be_had_says_why(
    client: Minio, source: str, make: Callable[[Minio], Fetcher], kind: type[EmbedError]
) -> None:
    with pytest.raises(EmbedError) as caught, make(client).fetch(source, check=nothing):
        pass
    assert type(caught.value) is kind


def test_a_key_without_rights_is_refused(s3: S3, client: Minio) -> None:
    source = f"s3://{BUCKET}/empty"
    with pytest.raises(Forbidden), fetcher(stranger(s3)).fetch(source, check=nothing):
        pass


def test_a_store_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        client = Minio(f"127.0.0.1:{nobody.getsockname()[1]}", access_key="a", secret_key="b", secure=False, region="x")
        client._http.connection_pool_kw["retries"] = False
        with pytest.raises(HostUnreachable), fetcher(client).fetch("s3://bucket/key", check=nothing):
            pass
