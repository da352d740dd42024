"""Jobs: made, filled, watched over, ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from api.answers import job_detail, page
from api.caller import Called, Caller
from api.problems import RequestProblem, documented
from glm4v_client.records import Added, ItemRequest, ItemsRequest, Job, JobDetail, JobRequest, Page, Retried
from glm4v_client.states import JobState
from worker.job_answer import job_answer
from worker.records import NewJob, Source

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: Seconds after which an owner with too much work may ask again.
_BUSY_SECONDS = 30

Limit = Annotated[int, Query(ge=1, le=1000, description="entries of a page")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="makes repetition harmless: the same key again is the same job",
    ),
]
Label = Annotated[str | None, Query(pattern=r"^[^:]{1,63}:[^\x00]{0,256}$", description="a label's name:value")]
Code = Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="an item's error code")]

_REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobDetail, "description": "The key was used before: this is the job made then"}
}


@router.post("", status_code=201, responses={**documented(409, 413, 422, 429), **_REPEATED})
def create_job(
    request: JobRequest, caller: Called, response: Response, idempotency_key: IdempotencyKey = None
) -> JobDetail:
    """Make a job with its first items; closed with this request unless `closed` is false."""
    service = caller.service
    if request.webhook is not None:
        service.settings.require_webhook_secret()
    new = NewJob(
        model=request.model or service.settings.model,
        owner=caller.owner,
        priority=request.priority,
        options=request.options.canonical(),
        labels=request.labels,
        idempotency_key=idempotency_key,
        webhook=None if request.webhook is None else str(request.webhook),
    )
    excess = too_much_work(caller, len(request.items))
    job, is_new = service.repository.create_job(new, _unless(excess, request.items), close=request.closed)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if request.items:
        service.announce(job.model)
    return job_detail(service.repository, job)


@router.get("", responses=documented(422))
def list_jobs(
    caller: Called,
    state: JobState | None = None,
    label: Label = None,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before")] = None,
    limit: Limit = 100,
) -> Page[Job]:
    """Your jobs, the newest first."""
    name, _, value = (label or "").partition(":")
    jobs = caller.service.repository.list_jobs(
        owner=caller.owner,
        state=state,
        label=None if label is None else (name, value),
        before=cursor,
        limit=limit + 1,
    )
    shown = [job_answer(job) for job in jobs]
    return page(shown, limit=limit, cursor=str(shown[:limit][-1].id) if shown else None)


@router.get("/{job_id}", responses=documented(404, 422))
def read_job(job_id: UUID, caller: Called) -> JobDetail:
    """A job and how far it is."""
    return job_detail(caller.service.repository, caller.job(job_id))


@router.post("/{job_id}/items", responses=documented(404, 409, 413, 422, 429))
def add_items(job_id: UUID, request: ItemsRequest, caller: Called) -> Added:
    """More items for an open job. With `first_position` a repetition adds nothing twice."""
    job, repository = caller.job(job_id), caller.service.repository
    known = job.progress.total - request.first_position if request.first_position is not None else 0
    excess = too_much_work(caller, len(request.items) - known)
    if excess is not None:
        raise excess
    added = repository.add_items(job_id, sources(request.items), first_position=request.first_position)
    if request.closed:
        repository.close_job(job_id)
    if added:
        caller.service.announce(job.model)
    return Added(added=added, total=repository.get_job(job_id).progress.total)


@router.post("/{job_id}/close", responses=documented(404, 422))
def close_job(job_id: UUID, caller: Called) -> JobDetail:
    """Take no more items, so that the job can finish."""
    caller.job(job_id)
    caller.service.repository.close_job(job_id)
    return read_job(job_id, caller)


@router.post("/{job_id}/cancel", responses=documented(404, 422))
def cancel_job(job_id: UUID, caller: Called) -> JobDetail:
    """Start no further item; running ones stop at their next stage. What is done stays."""
    caller.job(job_id)
    caller.service.repository.cancel_job(job_id)
    return read_job(job_id, caller)


@router.post("/{job_id}/retry", responses=documented(404, 409, 422))
def retry_job(job_id: UUID, caller: Called, code: Code = None) -> Retried:
    """Queue the failed items again, all of them or those with one error code."""
    job = caller.job(job_id)
    retried = caller.service.repository.retry_failed(job_id, error_code=code)
    if retried:
        caller.service.announce(job.model)
    return Retried(retried=retried)


@router.delete("/{job_id}", status_code=204, responses=documented(404, 422))
def delete_job(job_id: UUID, caller: Called) -> None:
    """Cancel a job and forget it with its items. Embeddings that no other job uses go after the retention time."""
    caller.job(job_id)
    caller.service.repository.delete_job(job_id)


def too_much_work(caller: Caller, new: int) -> RequestProblem | None:
    """Why the caller may not have so many new items; None: they may."""
    most = caller.service.settings.max_unfinished_items
    unfinished = caller.service.repository.unfinished_items(caller.owner)
    if new <= 0 or unfinished + new <= most:
        return None
    return RequestProblem(
        429,
        "too_much_work",
        f"You have {unfinished:,} unfinished items, and {most:,} are allowed: send more when some are done.",
        headers={"Retry-After": str(_BUSY_SECONDS)},
    )


def _unless(excess: RequestProblem | None, items: Iterable[str | ItemRequest]) -> Iterator[Source]:
    """The items of a new job. Those of a repeated request are not read, and so not refused.

    Raises:
        RequestProblem: they are too many.
    """
    if excess is not None:
        raise excess
    yield from sources(items)


def sources(items: Iterable[str | ItemRequest]) -> Iterable[Source]:
    for item in items:
        if isinstance(item, str):
            yield Source(source=item)
        else:
            options = None if item.options is None else item.options.canonical()
            yield Source(source=item.source, kind=item.kind, options=options)
