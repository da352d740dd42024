"""A job as the API, its events and its webhook say it: one shape, made in one place."""

from __future__ import annotations

from glm4v_client.options import EmbedOptions
from glm4v_client.records import Counts, Job
from worker.records import JobProgress, JobRecord


def job_answer(job: JobRecord) -> Job:
    """The record of the API for a job, from one row and no further query."""
    progress = job.progress
    return Job(
        id=job.id,
        state=progress.state,
        owner=job.owner,
        model=job.model,
        priority=job.priority,
        options=EmbedOptions.model_validate(job.options),
        labels=dict(job.labels),
        counts=Counts(
            total=progress.total,
            queued=progress.queued,
            running=progress.running,
            succeeded=progress.succeeded,
            failed=progress.failed,
            cancelled=progress.cancelled,
        ),
        tokens=progress.tokens,
        rate=rate(progress),
        seconds_left=seconds_left(progress),
        created_at=progress.created_at,
        closed_at=job.closed_at,
        started_at=progress.started_at,
        finished_at=progress.finished_at,
        cancelled_at=job.cancelled_at,
        measured_at=progress.measured_at,
    )


def rate(progress: JobProgress) -> float | None:
    """Items a second from the job's start to its end, or till now; None before any time has passed."""
    if progress.started_at is None:
        return None
    seconds = ((progress.finished_at or progress.measured_at) - progress.started_at).total_seconds()
    return (progress.succeeded + progress.failed) / seconds if seconds > 0 else None


def seconds_left(progress: JobProgress) -> float | None:
    """For the items that are left, at the rate so far; None when there is no rate or nothing is left."""
    left, speed = progress.queued + progress.running, rate(progress)
    return left / speed if left and speed else None
