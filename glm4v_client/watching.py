"""A job's progress as it happens: from the service's events, or by asking where those cannot be had."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from pydantic import ValidationError

from glm4v_client.errors import ClientError, ServiceTimeout, ServiceUnreachable, UnexpectedAnswer
from glm4v_client.event_stream import MEDIA_TYPE, EventReader
from glm4v_client.records import Counts, Job, JobDetail
from glm4v_client.service import Service
from glm4v_client.states import JobState

#: Silence that ends a stream of events: a new one begins with the present numbers, so nothing is lost by it.
_SILENCE_SECONDS = 30.0

#: Time between two questions where there are no events.
_POLL_SECONDS = 1.0

#: A job as it was seen, and whether it is the last that will be.
Sighting = tuple[Job, bool]


def has_ended(job: Job) -> bool:
    """Whether no item of the job will change any more unless asked."""
    return job.state is JobState.FINISHED or (job.state is JobState.CANCELLED and job.counts.running == 0)


async def watch(service: Service, job_id: UUID) -> AsyncGenerator[Job, None]:
    """The job at once, at each change of its state, counts or tokens, and when it has ended."""
    shown: Job | None = None
    async with aclosing(_sightings(service, job_id)) as sightings:
        async for job, is_last in sightings:
            if shown is None or _progress(job) != _progress(shown):
                shown = job
                yield job
            if is_last:
                return


async def _sightings(service: Service, job_id: UUID) -> AsyncGenerator[Sighting, None]:
    async with aclosing(_streams(service, job_id)) as streamed:
        async for sighting in streamed:
            yield sighting
    # What keeps events from us, say a proxy that collects an answer before it passes it on, is no reason to fail.
    # Where the service itself is away or knows no such job, asking says so.
    while True:
        job = await service.call("GET", f"/v1/jobs/{job_id}", JobDetail)
        yield job, has_ended(job)
        await service.network.sleep(_POLL_SECONDS)


async def _streams(service: Service, job_id: UUID) -> AsyncGenerator[Sighting, None]:
    """Progress from one stream after another, until none can be had."""
    attempts = service.attempts()
    while True:
        is_heard = False
        try:
            async with aclosing(_stream(service, job_id)) as sightings:
                async for sighting in sightings:
                    is_heard = True
                    attempts.succeeded()
                    yield sighting
        except ClientError as error:
            if isinstance(error, ServiceTimeout) and not is_heard:
                return
            try:
                await service.pause(attempts, error)
            except ClientError:
                return


async def _stream(service: Service, job_id: UUID) -> AsyncGenerator[Sighting, None]:
    """Progress from one stream of events, whose reader stops at the last.

    Raises:
        ClientError: it ended before that.
    """
    reader = EventReader()
    async with service.open(
        "GET", f"/v1/jobs/{job_id}/events", headers={"accept": MEDIA_TYPE}, read_timeout=_SILENCE_SECONDS
    ) as response:
        if not response.headers.get("content-type", "").startswith(MEDIA_TYPE):
            raise UnexpectedAnswer(f"the events of job {job_id} are not {MEDIA_TYPE}")
        async with aclosing(service.network.chunks(response)) as chunks:
            async for chunk in chunks:
                for event in reader.feed(chunk):
                    yield _job(event.data), event.name == "end"
    raise ServiceUnreachable("the stream of events ended", was_sent=True)


def _job(data: str) -> Job:
    try:
        return Job.model_validate_json(data)
    except ValidationError as error:
        raise UnexpectedAnswer("an event of the job holds something else than a job") from error


def _progress(job: Job) -> tuple[JobState, Counts, int]:
    return job.state, job.counts, job.tokens
