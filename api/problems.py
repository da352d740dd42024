"""Errors as application/problem+json: which status each code has, and how an answer says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from glm4v_client.records import MOST_ITEMS, Problem
from worker.errors import (
    EmbedError,
    EmptyFile,
    IdempotencyConflict,
    InvalidOptions,
    ItemNotFound,
    JobCancelled,
    JobClosed,
    JobNotFound,
    ObjectMissing,
    PositionConflict,
    SchemaMissing,
    WebhooksDisabled,
)

MEDIA_TYPE = "application/problem+json"

#: Seconds after which a client may ask again when one of our servers is away.
OUTAGE_SECONDS = 5

#: Faults of one request that the sentence names, and that the list holds.
_NAMED, _LISTED = 5, 100

_STATUSES: Mapping[type[EmbedError], int] = {
    JobNotFound: 404,
    ItemNotFound: 404,
    ObjectMissing: 404,
    JobClosed: 409,
    JobCancelled: 409,
    IdempotencyConflict: 409,
    PositionConflict: 409,
    EmptyFile: 422,
    InvalidOptions: 422,
    WebhooksDisabled: 422,
    SchemaMissing: 503,
}


class RequestProblem(HTTPException):
    """A request that is refused. Its class would not be seen by a client: its code is."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.code = code


def answer(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer that says what is wrong, and what to do."""
    problem = Problem(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, code=code, detail=detail, **more
    )
    return JSONResponse(problem.model_dump(mode="json"), status, headers, MEDIA_TYPE)


def answer_problem(problem: RequestProblem, **more: Any) -> JSONResponse:
    return answer(problem.status_code, problem.code, str(problem.detail), headers=problem.headers, **more)


def of_embed_error(error: EmbedError) -> RequestProblem:
    """What an error of the service is to its client."""
    if error.is_outage:
        return RequestProblem(503, error.code, error.message, headers={"Retry-After": str(OUTAGE_SECONDS)})
    return RequestProblem(_STATUSES.get(type(error), 500), error.code, error.message)


def of_http_error(error: HTTPException) -> RequestProblem:
    """What the framework's own refusals are called."""
    if isinstance(error, RequestProblem):
        return error
    codes = {404: "unknown_path", 405: "method_not_allowed", 413: "body_too_large"}
    details = {
        404: "There is nothing at this address: check the path.",
        405: "This address does not take this method: see docs/api.md.",
    }
    return RequestProblem(
        error.status_code,
        codes.get(error.status_code, "invalid_request"),
        details.get(error.status_code, f"{error.detail}."),
        headers=error.headers,
    )


def of_faults(errors: Sequence[Any]) -> RequestProblem:
    """A request that is not as described."""
    if any(fault["loc"] == ("body", "items") and fault["type"] == "too_long" for fault in errors):
        return RequestProblem(
            422, "too_many_items", f"One request takes {MOST_ITEMS:,} items: send the others to the job's /items."
        )
    named = "; ".join(f"{fault['at']}: {fault['message']}" for fault in describe_faults(errors)[:_NAMED])
    return RequestProblem(422, "invalid_request", f"Correct the request: {named}.")


def describe_faults(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Where in a request what is wrong. The values are left out: they may be secrets, or megabytes."""
    return [
        {"at": ".".join(str(part) for part in fault["loc"]), "message": str(fault["msg"]).removeprefix("Value error, ")}
        for fault in errors[:_LISTED]
    ]


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems it may answer with, beside those that every route may."""
    every = {401, 403, 503}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted(every | set(statuses))
    }
