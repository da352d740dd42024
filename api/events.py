"""A job's progress as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge
from starlette.concurrency import run_in_threadpool

from api.caller import Called
from api.problems import documented
from api.watching import Watches, has_ended
from glm4v_client.records import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MEDIA_TYPE = "text/event-stream"

#: Seconds of silence after which a comment shows that the connection lives; proxies end those that are silent for long.
_COMMENT_SECONDS = 15.0

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`event: progress` with a Job at once and on every change, at most twice a second; `event: end`"
        " with the last one. A stream that ends without it was cut: open it again",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


@router.get("/{job_id}/events", response_class=StreamingResponse, responses={**documented(404, 422), **_ANSWERS})
async def watch_job(job_id: UUID, caller: Called, request: Request) -> StreamingResponse:
    """A job's progress as it happens."""
    await run_in_threadpool(caller.job, job_id)
    state = request.app.state
    events = _events(job_id, state.watches, state.metrics.watchers)
    # A proxy that gathers an answer before it passes it on would turn news into history.
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


async def _events(job_id: UUID, watches: Watches, gauge: Gauge) -> AsyncIterator[str]:
    with gauge.track_inprogress():
        async with watches.watch(job_id) as watch:
            seen = 0
            while True:
                if not await watch.wait(seen, seconds=_COMMENT_SECONDS):
                    yield ": still here\n\n"
                    continue
                if watch.job is not None and watch.version > seen:
                    seen = watch.version
                    if not has_ended(watch.job):
                        yield event("progress", watch.job)
                if watch.is_over:
                    break
            # Cut off, by the server's end or the job's deletion, it says nothing: there may be more to come.
            if watch.job is not None and has_ended(watch.job):
                yield event("end", watch.job)


def event(name: str, job: Job) -> str:
    return f"event: {name}\ndata: {job.model_dump_json()}\n\n"
