"""From the service's answers that say no to errors."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

import httpx
from pydantic import ValidationError

from glm4v_client.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    ServiceError,
    ServiceFailed,
    TooManyRequests,
    Unauthorized,
)
from glm4v_client.records import Problem

_BY_STATUS: dict[int, type[ServiceError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: TooManyRequests,
}

#: Characters of an answer that is not ours which are shown.
_EXCERPT = 200


def service_error(response: httpx.Response) -> ServiceError:
    """The error that an answer of 400 or more stands for; its body has been read."""
    status = response.status_code
    kind = _BY_STATUS.get(status, ServiceFailed if status >= 500 else InvalidRequest)
    return kind(
        _problem(response),
        retry_after_seconds=retry_after(response.headers.get("retry-after"), now=datetime.now(UTC)),
        request_id=response.headers.get("x-request-id"),
    )


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; None where it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        # Not a date, or one without its zone: as if the header were not there.
        return None


def _problem(response: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        # A proxy's page, or an object store's XML.
        text = " ".join(response.text.split())[:_EXCERPT]
        return Problem(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            code=f"http_{response.status_code}",
            detail=f"{response.url.host} answered {response.status_code} {response.reason_phrase}: {text or 'no text'}",
        )
