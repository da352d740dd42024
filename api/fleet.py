"""Who embeds, and how much waits."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import queue_answer, worker_answer
from api.caller import Called
from api.problems import documented
from glm4v_client.records import Page, Queue, Worker

router = APIRouter(prefix="/v1", tags=["operation"])


@router.get("/workers", responses=documented())
def list_workers(caller: Called) -> Page[Worker]:
    """Workers that were heard of within the last day."""
    workers = caller.service.repository.workers()
    return Page(entries=[worker_answer(worker) for worker in workers], next_cursor=None)


@router.get("/queues", responses=documented())
def list_queues(caller: Called) -> Page[Queue]:
    """Work that waits, of everybody, by model."""
    depths = caller.service.repository.queue_depths()
    return Page(entries=[queue_answer(depth) for depth in depths], next_cursor=None)
