"""Items: what became of each reference."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query

from api.answers import item_answer, page
from api.caller import Called
from api.jobs import Code, Limit
from api.problems import documented
from glm4v_client.records import Item, Page, Retried
from glm4v_client.states import ItemState

router = APIRouter(prefix="/v1", tags=["items"])

#: Ids are 64-bit integers in the database, which would refuse a larger number in its own way.
ItemId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/jobs/{job_id}/items", responses=documented(404, 422))
def list_items(
    job_id: UUID,
    caller: Called,
    state: Annotated[list[ItemState] | None, Query(description="repeat it for several", max_length=8)] = None,
    code: Code = None,
    cursor: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="`next_cursor` of the page before")] = None,
    limit: Limit = 100,
) -> Page[Item]:
    """A job's items in the order of submission."""
    caller.job(job_id)
    items = caller.service.repository.list_items(
        job_id,
        states=sorted(set(state)) if state else tuple(ItemState),
        error_code=code,
        after=cursor or 0,
        limit=limit + 1,
    )
    shown = [item_answer(item) for item in items]
    return page(shown, limit=limit, cursor=str(shown[:limit][-1].id) if shown else None)


@router.get("/items/{item_id}", responses=documented(404, 422))
def read_item(item_id: ItemId, caller: Called) -> Item:
    """An item with its grid, timestamps, timings and error."""
    return item_answer(caller.item(item_id))


@router.post("/items/{item_id}/retry", responses=documented(404, 409, 422))
def retry_item(item_id: ItemId, caller: Called) -> Retried:
    """Queue a failed item again with all its attempts; one that has not failed is left as it is."""
    job = caller.job(caller.item(item_id).job_id)
    is_queued = caller.service.repository.retry_item(item_id)
    if is_queued:
        caller.service.announce(job.model)
    return Retried(retried=int(is_queued))
