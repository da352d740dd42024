"""`glm4v status`, `items`, `cancel` and `retry`: one or two questions to a service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from rich.console import Console

from glm4v_client.records import JobDetail, Retried
from glm4v_client.states import ItemState, JobState
from worker.access import Access
from worker.job_report import items_table, job_details, job_line, jobs_table
from worker.terminal import FAILURES, MOST_ROWS, SUCCESS, show, write

Record = TypeVar("Record", bound=BaseModel)


def status(access: Access, job_id: UUID, *, json: bool) -> int:
    """Show one job. Returns the exit code, which says whether something failed so far."""
    with access.client() as client:
        job = client.job(job_id).refresh()
    _print_job(job, json)
    return FAILURES if job.counts.failed or job.counts.cancelled else SUCCESS


def list_jobs(
    access: Access,
    console: Console,
    *,
    state: JobState | None,
    label: tuple[str, str] | None,
    limit: int | None,
    json: bool,
) -> int:
    """Show jobs, the newest first. Returns the exit code."""
    with access.client() as client:
        jobs = (job.record for job in client.jobs(state=state, label=label))
        if json:
            _print_lines(islice(jobs, limit))
            return SUCCESS
        shown = _rows(jobs, limit, console)
        if shown:
            show(jobs_table(shown))
        else:
            console.print("no such job" if state or label else "no job yet: `glm4v submit` makes one")
    return SUCCESS


def items(
    access: Access,
    job_id: UUID,
    console: Console,
    *,
    state: ItemState | None,
    code: str | None,
    limit: int | None,
    json: bool,
) -> int:
    """Show a job's items in the order of submission. Returns the exit code."""
    with access.client() as client:
        found = (item.record for item in client.job(job_id).items(state=state, code=code))
        if json:
            _print_lines(islice(found, limit))
            return SUCCESS
        shown = _rows(found, limit, console)
        if shown:
            show(items_table(shown))
        else:
            console.print("no such item" if state or code else "the job has no items")
    return SUCCESS


def cancel(access: Access, job_id: UUID, *, json: bool) -> int:
    """Start no further item of a job. Returns the exit code."""
    with access.client() as client:
        job = client.job(job_id).cancel()
    if json:
        _print_lines([job])
    else:
        show(f"{job.state.value}: {job_line(job)}")
    return SUCCESS


def retry(access: Access, job_id: UUID, console: Console, *, code: str | None, json: bool) -> int:
    """Queue a job's failed items again. Returns the exit code."""
    with access.client() as client:
        retried = client.job(job_id).retry_failed(code)
    if json:
        _print_lines([Retried(retried=retried)])
    else:
        show(f"queued again: {retried:,}")
    if retried:
        console.print(f"`glm4v watch {job_id}` shows how they fare")
    return SUCCESS


def _print_job(job: JobDetail, json: bool) -> None:
    if json:
        _print_lines([job])
    else:
        show(job_details(job))


def _print_lines(records: Iterable[BaseModel]) -> None:
    for record in records:
        write(record.model_dump_json() + "\n")


def _rows(records: Iterator[Record], limit: int | None, console: Console) -> list[Record]:
    """What a table shows; that there is more is said."""
    shown = list(islice(records, limit or MOST_ROWS))
    if next(records, None) is not None:
        console.print(f"only the first {len(shown)}: --limit shows more of them, --json all")
    return shown
