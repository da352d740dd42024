"""The status page: jobs, a job's items, an item. Drawn here, whole before any script runs.

A job's and an item's page listen to the job's events and then read themselves again. The list of jobs reads itself
every two seconds while somebody looks at it: what it shows has no stream of its own, and a stream for each viewer would
have the server ask the database as often.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from api import fleet, items, jobs, page_forms, page_links
from api.caller import Called
from api.rendering import ASSET_TYPES, asset_bytes, render
from api.watching import has_ended
from glm4v_client.states import ItemState, JobState

router = APIRouter(include_in_schema=False)
router.include_router(page_forms.router)

_JOBS_SHOWN = 50
_ITEMS_SHOWN = 100

#: Empty when nothing was typed: a form sends its fields all the same.
ChosenCode = Annotated[str, Query(pattern=r"^[a-z0-9_]{0,64}$")]

#: What a page says after a form was sent.
_NOTES = {
    "retried": "Failed items are queued again.",
    "cancelled": "The job is cancelled.",
    "deleted": "The job is deleted.",
}


@router.get("/")
def show_jobs(
    request: Request,
    caller: Called,
    state: JobState | None = None,
    label: jobs.Label = None,
    cursor: UUID | None = None,
    note: str | None = None,
) -> HTMLResponse:
    shown = jobs.list_jobs(caller, state=state, label=label, cursor=cursor, limit=_JOBS_SHOWN)
    return render(
        "jobs.html",
        jobs=shown,
        queues=fleet.list_queues(caller).entries,
        workers=fleet.list_workers(caller).entries,
        now=datetime.now(UTC),
        choices=page_links.job_choices(state, label=label),
        label=label,
        without_label=page_links.link("/", state=state),
        filtered=bool(state or label or cursor),
        newest=page_links.link("/", state=state, label=label) if cursor else None,
        older=shown.next_cursor and page_links.link("/", state=state, label=label, cursor=shown.next_cursor),
        server=_server(request),
        note=_NOTES.get(note or ""),
    )


@router.get("/jobs/{job_id:uuid}")
def show_job(
    caller: Called,
    job_id: UUID,
    state: ItemState | None = None,
    code: ChosenCode = "",
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    note: str | None = None,
) -> HTMLResponse:
    job = jobs.read_job(job_id, caller)
    states = None if state is None else [state]
    shown = items.list_items(job_id, caller, state=states, code=code or None, cursor=cursor, limit=_ITEMS_SHOWN)
    path = f"/jobs/{job_id}"
    return render(
        "job.html",
        job=job,
        items=shown,
        now=job.measured_at,
        lives=not has_ended(job),
        code=code,
        choices=page_links.item_choices(path, job.counts, state),
        filtered=bool(state or code or cursor),
        first=page_links.link(path, state=state, code=code) if cursor else None,
        following=shown.next_cursor and page_links.link(path, state=state, code=code, cursor=shown.next_cursor),
        note=_NOTES.get(note or ""),
    )


@router.get("/items/{item_id:int}")
def show_item(request: Request, caller: Called, item_id: items.ItemId, note: str | None = None) -> HTMLResponse:
    item = items.read_item(item_id, caller)
    job = jobs.read_job(item.job_id, caller)
    return render(
        "item.html",
        item=item,
        job=job,
        now=job.measured_at,
        lives=item.state in (ItemState.QUEUED, ItemState.RUNNING) and not has_ended(job),
        server=_server(request),
        note=_NOTES.get(note or ""),
    )


@router.get("/static/{name}")
def read_asset(name: str) -> Response:
    """A script, a style or a picture of the pages; its address changes with its contents."""
    if name not in ASSET_TYPES:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(asset_bytes(name), media_type=ASSET_TYPES[name], headers=headers)


def _server(request: Request) -> str:
    """The service's address as its reader knows it."""
    return str(request.base_url).rstrip("/")
