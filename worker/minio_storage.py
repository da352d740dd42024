"""Artefacts in an S3 bucket, by the minio client: any server that speaks S3."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import BinaryIO, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import S3Error
from minio.helpers import check_bucket_name
from typing_extensions import Buffer
from urllib3 import BaseHTTPResponse

from worker.errors import InvalidSettings, ObjectMissing
from worker.minio_errors import storage_errors
from worker.minio_upload import MinioWriter, Put
from worker.settings import Settings
from worker.storage import StoredObject, check_key

DEFAULT_ENDPOINT = "https://s3.amazonaws.com"

_OPTIONS = ("endpoint", "region", "style")
_READ_BYTES = 2**18
_OURS_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def connect(url: str, settings: Settings) -> tuple[Minio, str]:
    """A client for `s3://bucket?endpoint=...&region=...&style=path`, and the bucket; the server is not asked yet.

    The style says where a request names the bucket: `path` (the default for servers other than Amazon's) or
    `virtual`, in the host's name.

    Raises:
        InvalidSettings: the URL makes no sense.
    """
    parts = urlsplit(url)
    options = _options(parts)
    endpoint = urlsplit(options.get("endpoint", DEFAULT_ENDPOINT))
    if endpoint.scheme not in ("http", "https") or not endpoint.netloc or endpoint.path.strip("/"):
        raise InvalidSettings(f"the endpoint of {url} is no server: write endpoint=http://host:port or https://host")
    client = Minio(
        endpoint.netloc,
        access_key=None if settings.s3_access_key is None else settings.s3_access_key.get_secret_value(),
        secret_key=None if settings.s3_secret_key is None else settings.s3_secret_key.get_secret_value(),
        secure=endpoint.scheme == "https",
        region=options.get("region"),
        http_client=_http_client(settings),
    )
    if options.get("style") == "virtual":
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client, parts.netloc


class MinioStorage:
    """Objects of one bucket. Made if missing. Threads may share one."""

    def __init__(self, client: Minio, bucket: str, *, part_bytes: int) -> None:
        """
        Args:
            part_bytes: size of the parts of a large upload; smaller objects are sent in one request.

        Raises:
            InvalidSettings: no bucket can have this name.
            StorageUnavailable, StorageForbidden: the bucket cannot be reached or made.
        """
        try:
            check_bucket_name(bucket)
        except ValueError as error:
            raise InvalidSettings(f"GLM4V_STORE_URL names no bucket: {error}") from error
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes
        with storage_errors(bucket):
            self._make_bucket()

    @contextmanager
    def writer(self, key: str) -> Iterator[MinioWriter]:
        writer = MinioWriter(Put(self._client, self._bucket, check_key(key)), part_bytes=self._part_bytes)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.commit()

    def open(self, key: str, start: int = 0, length: int | None = None) -> BinaryIO:
        check_key(key)
        with storage_errors(key):
            try:
                response = self._client.get_object(self._bucket, key, offset=start, length=length or 0)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return io.BytesIO()
                raise
        return cast(BinaryIO, io.BufferedReader(_ObjectReader(response, key), _READ_BYTES))

    def size(self, key: str) -> int | None:
        check_key(key)
        try:
            with storage_errors(key):
                return self._client.stat_object(self._bucket, key).size
        except ObjectMissing:
            return None

    def delete(self, key: str) -> None:
        check_key(key)
        with storage_errors(key):
            self._client.remove_object(self._bucket, key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with storage_errors(self._bucket):
            for found in self._client.list_objects(self._bucket, prefix=prefix, recursive=True):
                # Optional in the client's types only because it uses the same type for folders, which are not listed.
                key, modified_at = cast(str, found.object_name), cast(datetime, found.last_modified)
                yield StoredObject(key=key, size=cast(int, found.size), modified_at=modified_at)

    def presigned_url(self, key: str, *, expires_seconds: int) -> str | None:
        check_key(key)
        with storage_errors(key):
            return self._client.presigned_get_object(self._bucket, key, expires=timedelta(seconds=expires_seconds))

    def _make_bucket(self) -> None:
        if self._client.bucket_exists(self._bucket):
            return
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            # Another worker that starts just now was quicker.
            if error.code not in _OURS_ALREADY:
                raise


class _ObjectReader(io.RawIOBase):
    """The body of a response as a file; gives its connection back when it is closed."""

    def __init__(self, response: BaseHTTPResponse, key: str) -> None:
        super().__init__()
        self._response = response
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer).cast("B")
        with storage_errors(self._key):
            data = self._response.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            # Closed rather than read to its end: the rest may be long.
            self._response.close()
            self._response.release_conn()
        super().close()


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query))
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown or parts.path.strip("/") or options.get("style", "path") not in ("path", "virtual"):
        raise InvalidSettings(
            f"{parts.geturl()} is no store: write s3://bucket?endpoint=http://host:9000&region=us-east-1&style=path"
        )
    return options


def _http_client(settings: Settings) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=settings.connect_timeout_seconds, read=settings.store_timeout_seconds),
        maxsize=settings.item_threads,
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=urllib3.Retry(
            total=settings.store_retries,
            backoff_factor=0.2,
            status_forcelist=(500, 502, 503, 504),
            # Every request of ours may be repeated, also the POSTs that begin and end a multipart upload.
            allowed_methods=None,
        ),
    )
