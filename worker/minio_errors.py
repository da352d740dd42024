"""What an exception of the minio client means for a store: the one place that knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from worker.errors import EmbedError, ObjectMissing, StorageForbidden, StorageFull, StorageUnavailable

_MISSING = {"NoSuchKey", "NoSuchVersion", "ResourceNotFound"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_FULL = {"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}


@contextmanager
def storage_errors(subject: str) -> Iterator[None]:
    """Raise our errors for the client's; `subject` is what the block is about."""
    try:
        yield
    except S3Error as error:
        raise _by_code(subject, error.code or "no code", error.message or "no message") from error
    except (MinioException, HTTPError, OSError) as error:
        raise StorageUnavailable(f"the store did not do its part for {subject}: check it ({error})") from error


def _by_code(subject: str, code: str, message: str) -> EmbedError:
    if code in _MISSING:
        return ObjectMissing(f"there is no object {subject}: run the audit")
    if code in _DENIED:
        return StorageForbidden(
            f"the store refuses {subject} ({code}): check GLM4V_S3_ACCESS_KEY, GLM4V_S3_SECRET_KEY and the policy"
        )
    if code in _FULL:
        return StorageFull(f"the store has no room for {subject} ({code}): free some space")
    return StorageUnavailable(f"the store did not do its part for {subject} ({code}: {message}): check it")
