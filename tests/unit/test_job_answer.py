from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from glm4v_client.options import EmbedOptions
from glm4v_client.states import JobState
from worker.job_answer import job_answer
from worker.records import JobProgress, JobRecord

START = datetime(2026, 1, 1, tzinfo=UTC)
PROGRESS = JobProgress(
    job_id=UUID(int=1),
    state=JobState.RUNNING,
    total=100,
    queued=70,
    running=10,
    succeeded=15,
    failed=5,
    cancelled=0,
    tokens=900,
    created_at=START,
    started_at=START,
    finished_at=None,
    measured_at=START + timedelta(seconds=10),
)
JOB = JobRecord(
    id=UUID(int=1),
    owner="ann",
    model="m",
    priority=5,
    options={"fps": 2.0},
    labels={"set": "a"},
    idempotency_key="k",
    webhook="https://receiver.example/",
    closed_at=START,
    cancelled_at=None,
    progress=PROGRESS,
)


def test_a_job_is_told_with_its_rate_and_the_time_that_is_left() -> None:
    answer = job_answer(JOB)
    assert (answer.rate, answer.seconds_left) == (2.0, 40.0)
    assert (answer.counts.total, answer.counts.done, answer.tokens) == (100, 20, 900)
    assert (answer.options, answer.labels) == (EmbedOptions(fps=2.0), {"set": "a"})


def test_before_its_start_a_job_has_no_rate() -> None:
    answer = job_answer(replace(JOB, progress=replace(PROGRESS, started_at=None)))
    assert (answer.rate, answer.seconds_left) == (None, None)


def test_a_finished_jobs_rate_stays() -> None:
    finished = replace(PROGRESS, queued=0, running=0, succeeded=95, finished_at=START + timedelta(seconds=50))
    answer = job_answer(replace(JOB, progress=finished))
    assert (answer.rate, answer.seconds_left) == (2.0, None)


def test_nothing_done_yet_leaves_no_time_to_tell() -> None:
    answer = job_answer(replace(JOB, progress=replace(PROGRESS, succeeded=0, failed=0)))
    assert (answer.rate, answer.seconds_left) == (0.0, None)
