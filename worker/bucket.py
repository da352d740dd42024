"""References of the form s3://bucket/key, read with the worker's own credentials."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ReadTimeoutError

from worker.errors import (
    EmbedError,
    FetchTimeout,
    Forbidden,
    HostUnreachable,
    HttpStatus,
    HttpUnavailable,
    NotFound,
    UnsupportedSource,
)

_CHUNK = 1 << 18
_MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "ResourceNotFound"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "XMinioServerNotInitialized"}


class BucketReader:
    """Opens objects of any bucket that the credentials may read."""

    def __init__(self, client: Minio, *, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds

    @contextmanager
    def open(self, source: str) -> Iterator[ObjectBody]:
        """Open `s3://bucket/key`.

        Raises:
            EmbedError: the source names no object, or the store does not give it.
        """
        bucket, key = _bucket_and_key(source)
        deadline = time.monotonic() + self._timeout_seconds
        with _as_our_errors(source):
            reply = self._client.get_object(bucket, key)
            try:
                yield ObjectBody(reply, deadline)
            finally:
                reply.close()
                reply.release_conn()


class ObjectBody:
    """The bytes of one object."""

    def __init__(self, reply: BaseHTTPResponse, deadline: float) -> None:
        self._reply = reply
        self._deadline = deadline

    @property
    def announced_bytes(self) -> int | None:
        """What the store says it will send, if it says so."""
        length = self._reply.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._reply.stream(_CHUNK):
            if time.monotonic() > self._deadline:
                raise FetchTimeout
            yield chunk


def _bucket_and_key(source: str) -> tuple[str, str]:
    bucket, _, key = source.partition("://")[2].partition("/")
    if not bucket or not key:
        raise UnsupportedSource(f"{source} names no object: write s3://bucket/key.")
    # The key as it is: nobody percent-encodes these, and a key may hold a percent sign.
    return bucket, key


@contextmanager
def _as_our_errors(source: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        raise _by_code(source, error) from error
    except (ServerError, InvalidResponseError) as error:
        raise HttpUnavailable(f"The store of {source} answers in an unusable way: {error}.") from error
    except ReadTimeoutError as error:
        raise FetchTimeout(f"The store of {source} fell silent while sending it.") from error
    except (HTTPError, OSError) as error:
        raise HostUnreachable(f"The store of {source} cannot be reached: {error}.") from error
    except ValueError as error:
        # The client checks names before it asks.
        raise UnsupportedSource(f"{source} names no object: {error}.") from error


def _by_code(source: str, error: S3Error) -> EmbedError:
    if error.code in _MISSING:
        return NotFound(f"There is no {source}: check bucket and key.")
    if error.code in _DENIED:
        return Forbidden(f"{source} may not be read: give GLM4V_S3_ACCESS_KEY read access to it.")
    if error.code in _BUSY:
        return HttpUnavailable(f"The store cannot deliver {source} at the moment: {error.code}.")
    return HttpStatus(f"The store refuses {source}: {error.code}.")
