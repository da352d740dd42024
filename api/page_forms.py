"""What the pages' buttons do: plain forms, answered with what to look at next. `api.auth` refuses other sites'."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse

from api import items, jobs
from api.caller import Called
from api.page_links import link

router = APIRouter(include_in_schema=False)


@router.post("/jobs/{job_id:uuid}/retry")
def retry_failed(
    caller: Called, job_id: UUID, code: Annotated[str, Form(pattern=r"^[a-z0-9_]{0,64}$")] = ""
) -> RedirectResponse:
    jobs.retry_job(job_id, caller, code or None)
    return _see(f"/jobs/{job_id}", note="retried")


@router.post("/jobs/{job_id:uuid}/cancel")
def cancel_job(caller: Called, job_id: UUID) -> RedirectResponse:
    jobs.cancel_job(job_id, caller)
    return _see(f"/jobs/{job_id}", note="cancelled")


@router.post("/jobs/{job_id:uuid}/delete")
def delete_job(caller: Called, job_id: UUID) -> RedirectResponse:
    jobs.delete_job(job_id, caller)
    return _see("/", note="deleted")


@router.post("/items/{item_id:int}/retry")
def retry_item(caller: Called, item_id: items.ItemId) -> RedirectResponse:
    items.retry_item(item_id, caller)
    return _see(f"/items/{item_id}", note="retried")


def _see(path: str, *, note: str) -> RedirectResponse:
    # 303: reloading what comes next sends no form again.
    return RedirectResponse(link(path, note=note), status_code=303)
