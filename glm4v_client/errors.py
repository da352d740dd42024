"""Every way in which a call of the client can fail.

    ClientError
    ├── InvalidArgument          a value given to the client makes no sense; also a ValueError
    ├── ServiceUnreachable       no connection, or it broke
    │   └── ServiceTimeout       the service fell silent; also a TimeoutError
    ├── UnexpectedAnswer         something answered that is not this service
    ├── ServiceError             the service answered with a problem: its code, detail and status
    │   ├── InvalidRequest       400, 413, 415, 422
    │   ├── Unauthorized         401
    │   ├── Forbidden            403
    │   ├── NotFound             404, 410
    │   ├── Conflict             409
    │   ├── TooManyRequests      429, for longer than the client's patience
    │   └── ServiceFailed        5xx, at every attempt
    ├── DamagedDownload          what arrived is not what the service stored
    ├── UnverifiedWebhook        a webhook's message is not the service's, or is too old
    ├── NoEmbedding              the item has none: it failed, was cancelled, or is not done
    ├── JobFailed                items of the job failed or were cancelled
    └── WaitTimeout              the job had not ended in time; also a TimeoutError

A local file that cannot be read or written is Python's own OSError.
"""

# An error is named as it reads; a suffix on each of them would say nothing.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from glm4v_client.records import Item, Job, Problem


class ClientError(Exception):
    """A call of the glm4v client failed: read the message for what to do."""

    code: ClassVar[str] = "client_error"


class InvalidArgument(ClientError, ValueError):
    """A value given to the client makes no sense."""

    code = "invalid_argument"


class ServiceUnreachable(ClientError):
    """The service could not be reached, or the connection to it broke."""

    code = "service_unreachable"

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        #: False: the service has certainly not seen the request.
        self.was_sent = was_sent


class ServiceTimeout(ServiceUnreachable, TimeoutError):
    """The service fell silent."""

    code = "service_timeout"


class UnexpectedAnswer(ClientError):
    """Something answered that is not a glm4v service, or one of another version."""

    code = "unexpected_answer"


class ServiceError(ClientError):
    """The service answered with a problem."""

    code = "service_error"

    def __init__(
        self, problem: Problem, *, retry_after_seconds: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(f"{problem.code}: {problem.detail}")
        self.problem = problem
        #: Stable; docs/api.md lists them.
        self.code = problem.code  # type: ignore[misc]  # here the service says which one it is
        self.detail = problem.detail
        self.status = problem.status
        #: What the service asked us to wait, if it did.
        self.retry_after_seconds = retry_after_seconds
        #: Finds the request in the service's logs.
        self.request_id = request_id


class InvalidRequest(ServiceError):
    """The service does not take the request as it is."""


class Unauthorized(ServiceError):
    """The service wants an API key, or another one."""


class Forbidden(ServiceError):
    """The key may not do that."""


class NotFound(ServiceError):
    """There is no such thing, or it is another key's."""


class Conflict(ServiceError):
    """The request contradicts what was done before."""


class TooManyRequests(ServiceError):
    """The service was busy for longer than the client's patience."""


class ServiceFailed(ServiceError):
    """The service, or a proxy before it, is broken or starting."""


class DamagedDownload(ClientError):
    """What arrived is not what the service stored."""

    code = "damaged_download"


class UnverifiedWebhook(ClientError):
    """A webhook's message does not come from the service, or came long ago: answer 400 and do nothing."""

    code = "unverified_webhook"


class NoEmbedding(ClientError):
    """The item has no embedding: it failed, was cancelled, or is not done."""

    code = "no_embedding"

    def __init__(self, item: Item) -> None:
        reason = f"{item.error.code}: {item.error.message}" if item.error else "wait for its job and read it again"
        super().__init__(f"item {item.position} ({item.source}) is {item.state.value}; {reason}")
        self.item = item


class JobFailed(ClientError):
    """Items of the job failed or were cancelled."""

    code = "job_failed"

    def __init__(self, job: Job, *, codes: Mapping[str, int], examples: tuple[Item, ...]) -> None:
        super().__init__("\n".join([_headline(job, codes), *map(_example, examples)]))
        self.job = job
        #: How many of the failed items that were looked at have each code, the most frequent first.
        self.codes = dict(codes)
        #: The first of them, each with its `error`.
        self.examples = examples


class WaitTimeout(ClientError, TimeoutError):
    """The job had not ended in time; it goes on."""

    code = "wait_timeout"

    def __init__(self, job: Job, *, seconds: float) -> None:
        super().__init__(
            f"{job.counts.done:,} of {job.counts.total:,} items were done after {seconds:g} s; the job goes on"
        )
        self.job = job


def _headline(job: Job, codes: Mapping[str, int]) -> str:
    counts = job.counts
    reasons = ", ".join(f"{code} {number:,}" for code, number in codes.items())
    return f"{counts.failed:,} of {counts.total:,} items failed and {counts.cancelled:,} were cancelled" + (
        f" ({reasons})" if reasons else ""
    )


def _example(item: Item) -> str:
    return f"  {item.position}: {item.source}: {item.error.message if item.error else item.state.value}"
