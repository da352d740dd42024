"""Every way in which an item, a request or a start can fail.

    EmbedError
    ├── TransientError                  another attempt may succeed
    │   ├── NameNotResolved             name_not_resolved
    │   ├── HostUnreachable             host_unreachable
    │   ├── FetchTimeout                fetch_timeout
    │   ├── HttpUnavailable             http_unavailable
    │   ├── SourceChanged               source_changed
    │   ├── SourceUnreadable            source_unreadable
    │   ├── DecoderCrashed              decoder_crashed
    │   ├── DeviceFailed                device_failed
    │   ├── StorageUnavailable          storage_unavailable
    │   ├── StorageForbidden            storage_forbidden
    │   ├── StorageFull                 storage_full
    │   ├── DatabaseUnavailable         database_unavailable
    │   └── BrokerUnavailable           broker_unavailable
    ├── PermanentError                  another attempt would end the same
    │   ├── UnsupportedSource           unsupported_source
    │   ├── ForbiddenAddress            forbidden_address
    │   ├── ForbiddenPath               forbidden_path
    │   ├── Forbidden                   forbidden
    │   ├── NotFound                    not_found
    │   ├── HttpStatus                  http_status
    │   ├── TooManyRedirects            too_many_redirects
    │   ├── IsADirectory                is_a_directory
    │   ├── EmptyFile                   empty_file
    │   ├── TooLarge                    too_large
    │   ├── TooManyPixels               too_many_pixels
    │   ├── TooManyFrames               too_many_frames
    │   ├── TooLong                     too_long
    │   ├── UnsupportedMedia            unsupported_media
    │   ├── CorruptMedia                corrupt_media
    │   ├── NoVideoStream               no_video_stream
    │   ├── NoFrames                    no_frames
    │   ├── DecodeTimeout               decode_timeout
    │   ├── TooLargeForDevice           too_large_for_device
    │   ├── WorkerLost                  worker_lost
    │   ├── ObjectMissing               object_missing
    │   ├── InvalidSettings             invalid_settings
    │   ├── InvalidOptions              invalid_options
    │   ├── JobNotFound                 job_not_found
    │   ├── ItemNotFound                item_not_found
    │   ├── JobClosed                   job_closed
    │   ├── JobCancelled                job_cancelled
    │   ├── IdempotencyConflict         idempotency_conflict
    │   ├── PositionConflict            position_conflict
    │   ├── WebhooksDisabled            webhooks_disabled
    │   ├── SchemaMissing               schema_missing
    │   └── InternalError               internal_error
    └── Interrupted                     nobody's fault: the item is given back, no attempt is charged
        ├── LeaseLost                   lease_lost
        ├── ItemCancelled               item_cancelled
        └── WorkerStopping              worker_stopping

The branch decides whether an item is retried. An outage of the worker's own servers (the storage_, database_ and
broker_ codes) is transient, and the item is not charged for it. The code is stable: it is stored, counted and shown.
The message is one sentence that says what to do; without one, the class's docstring is the message.
"""

# An error is named as its code reads; a suffix on each of them would say nothing.
# ruff: noqa: N818

from __future__ import annotations

from typing import ClassVar


class EmbedError(Exception):
    """Something failed in glm4v-embed: read the message for what to do."""

    code: ClassVar[str] = "embed_error"
    #: One of the worker's own servers is away or misconfigured; no item is to blame.
    is_outage: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        self.message = message or " ".join((self.__doc__ or "").split())
        super().__init__(self.message)


class TransientError(EmbedError):
    """A server or a device did not answer as it should: try again."""

    code = "transient_error"


class PermanentError(EmbedError):
    """The request cannot succeed as it is: change it before trying again."""

    code = "permanent_error"


class Interrupted(EmbedError):
    """The work was stopped from outside and given back: there is nothing to do."""

    code = "interrupted"


class NameNotResolved(TransientError):
    """The host's name has no address: check its spelling and the worker's DNS."""

    code = "name_not_resolved"


class HostUnreachable(TransientError):
    """The host refused or dropped the connection: check that it is up and reachable from the worker."""

    code = "host_unreachable"


class FetchTimeout(TransientError):
    """The source did not arrive in time: check the host's speed or raise GLM4V_FETCH_TIMEOUT_SECONDS."""

    code = "fetch_timeout"


class HttpUnavailable(TransientError):
    """The host answered that it is busy or broken (429 or 5xx): try again later."""

    code = "http_unavailable"


class SourceChanged(TransientError):
    """The source changed while it was being read: try again once it is complete."""

    code = "source_changed"


class SourceUnreadable(TransientError):
    """The source could not be read to its end: check the disk or the server that holds it."""

    code = "source_unreadable"


class DecoderCrashed(TransientError):
    """The decoding process died on this file: check the file and the memory left on the worker."""

    code = "decoder_crashed"


class DeviceFailed(TransientError):
    """The device failed while encoding: check the worker's log and its GPU."""

    code = "device_failed"


class StorageUnavailable(TransientError):
    """The object store did not answer: check that GLM4V_STORE_URL is right and the store is up."""

    code = "storage_unavailable"
    is_outage = True


class StorageForbidden(TransientError):
    """The object store refused the worker: check GLM4V_S3_ACCESS_KEY, GLM4V_S3_SECRET_KEY and the bucket's policy."""

    code = "storage_forbidden"
    is_outage = True


class StorageFull(TransientError):
    """The object store has no room left: free some space."""

    code = "storage_full"
    is_outage = True


class DatabaseUnavailable(TransientError):
    """The database did not answer: check that GLM4V_DATABASE_URL is right and the server is up."""

    code = "database_unavailable"
    is_outage = True


class BrokerUnavailable(TransientError):
    """The broker did not answer: check that GLM4V_BROKER_URL is right and the server is up."""

    code = "broker_unavailable"
    is_outage = True


class UnsupportedSource(PermanentError):
    """The source is not a reference that can be read: use http(s)://, s3://bucket/key, file:// or a path."""

    code = "unsupported_source"


class ForbiddenAddress(PermanentError):
    """The host has a private address: use a public one, or set GLM4V_ALLOW_PRIVATE_ADDRESSES=true on the worker."""

    code = "forbidden_address"


class ForbiddenPath(PermanentError):
    """The file lies outside the folders the worker may read: add its folder to GLM4V_FILE_ROOTS."""

    code = "forbidden_path"


class Forbidden(PermanentError):
    """The source refused the worker: give it read access or sign the URL."""

    code = "forbidden"


class NotFound(PermanentError):
    """There is nothing at the source: check the reference."""

    code = "not_found"


class HttpStatus(PermanentError):
    """The host answered with a status that is not a success: check the URL in a browser."""

    code = "http_status"


class TooManyRedirects(PermanentError):
    """The URL redirects too often: give the address it leads to."""

    code = "too_many_redirects"


class IsADirectory(PermanentError):
    """The source is a directory: name the files in it."""

    code = "is_a_directory"


class EmptyFile(PermanentError):
    """The source has no bytes: upload it again."""

    code = "empty_file"


class TooLarge(PermanentError):
    """The source has too many bytes: shrink it or raise GLM4V_MAX_SOURCE_BYTES."""

    code = "too_large"


class TooManyPixels(PermanentError):
    """The picture has too many pixels: shrink it or raise GLM4V_MAX_IMAGE_PIXELS or GLM4V_MAX_FRAME_PIXELS."""

    code = "too_many_pixels"


class TooManyFrames(PermanentError):
    """The clip has too many frames: cut it or raise GLM4V_MAX_SOURCE_FRAMES."""

    code = "too_many_frames"


class TooLong(PermanentError):
    """The clip is too long: cut it or raise GLM4V_MAX_DURATION_SECONDS."""

    code = "too_long"


class UnsupportedMedia(PermanentError):
    """The file is not an image or a video that can be read: convert it to JPEG, PNG or MP4."""

    code = "unsupported_media"


class CorruptMedia(PermanentError):
    """The file is damaged or cut short: upload it again."""

    code = "corrupt_media"


class NoVideoStream(PermanentError):
    """The file holds no video stream: check that it is not sound only."""

    code = "no_video_stream"


class NoFrames(PermanentError):
    """No frame of the clip could be decoded: encode it again."""

    code = "no_frames"


class DecodeTimeout(PermanentError):
    """Decoding took too long: shorten the clip or raise GLM4V_DECODE_TIMEOUT_SECONDS."""

    # The limit is minutes, far beyond a busy machine's delay: another attempt would burn as much again.
    code = "decode_timeout"


class TooLargeForDevice(PermanentError):
    """The item does not fit into the device's memory alone: lower max_pixels or use a larger device."""

    code = "too_large_for_device"


class WorkerLost(PermanentError):
    """The worker died on every attempt at this item: check the file and the worker's log, then retry the item."""

    code = "worker_lost"


class ObjectMissing(PermanentError):
    """The store holds no such object: run the audit, then retry the items that need it."""

    code = "object_missing"


class InvalidSettings(PermanentError):
    """A setting makes no sense: correct the GLM4V_ variable that the message names."""

    code = "invalid_settings"


class InvalidOptions(PermanentError):
    """A job option makes no sense: correct the option that the message names."""

    code = "invalid_options"


class JobNotFound(PermanentError):
    """There is no such job: check its id."""

    code = "job_not_found"


class ItemNotFound(PermanentError):
    """There is no such item: check its id."""

    code = "item_not_found"


class JobClosed(PermanentError):
    """The job takes no more items: make a new job."""

    code = "job_closed"


class JobCancelled(PermanentError):
    """The job was cancelled: make a new job."""

    code = "job_cancelled"


class IdempotencyConflict(PermanentError):
    """The idempotency key belongs to a different request: use a new key."""

    code = "idempotency_conflict"


class PositionConflict(PermanentError):
    """The items begin beyond the job's last one: add those in between first."""

    code = "position_conflict"


class WebhooksDisabled(PermanentError):
    """This service sends no webhooks: submit without one, or let its operator set GLM4V_WEBHOOK_SECRET."""

    code = "webhooks_disabled"


class SchemaMissing(PermanentError):
    """The database lacks our tables or has old ones: run `alembic upgrade head`."""

    code = "schema_missing"


class InternalError(PermanentError):
    """A mistake in glm4v-embed itself: report it with the worker's log."""

    code = "internal_error"


class LeaseLost(Interrupted):
    """Another worker took the item after this one was silent for too long: its result counts, not this one's."""

    code = "lease_lost"


class ItemCancelled(Interrupted):
    """The job was cancelled while the item ran."""

    code = "item_cancelled"


class WorkerStopping(Interrupted):
    """The worker is stopping and gives the item back."""

    code = "worker_stopping"
