"""Who calls, and the service that is called: what every route needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.service import Service
from worker.errors import ItemNotFound, JobNotFound
from worker.records import ItemRecord, JobRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """A request's sender. What belongs to others does not exist for them."""

    service: Service
    owner: str  #: name of the API key; empty where there are no keys

    def job(self, job_id: UUID) -> JobRecord:
        """
        Raises:
            JobNotFound: there is no such job, or it is somebody else's.
        """
        job = self.service.repository.get_job(job_id)
        if job.owner != self.owner:
            raise JobNotFound(f"there is no job {job_id}: check its id")
        return job

    def item(self, item_id: int) -> ItemRecord:
        """
        Raises:
            ItemNotFound: there is no such item, or its job is somebody else's.
        """
        item = self.service.repository.get_item(item_id)
        try:
            self.job(item.job_id)
        except JobNotFound as error:
            raise ItemNotFound(f"there is no item {item_id}: check its id") from error
        return item


async def _caller(request: Request) -> Caller:
    # A coroutine, which waits for nothing: a function would be given a thread for it.
    return Caller(service=request.app.state.service, owner=request.state.owner)


Called = Annotated[Caller, Depends(_caller)]
