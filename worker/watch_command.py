"""`glm4v watch`: a job's progress until it has ended."""

from __future__ import annotations

from uuid import UUID

from rich.console import Console

from glm4v_client.client import JobHandle
from glm4v_client.errors import ClientError, JobFailed
from worker.access import Access
from worker.job_report import JobBar, job_line, what_next
from worker.stopping import Stopped
from worker.terminal import FAILURES, SUCCESS, show, write


def watch(access: Access, job_id: UUID, console: Console, *, json: bool) -> int:
    """Show a job's progress until it has ended. Returns the exit code."""
    with access.patient_client() as client:
        return watch_job(client.job(job_id), console, json=json)


def watch_job(job: JobHandle, console: Console, *, json: bool) -> int:
    """The same of a job that was found already."""
    try:
        with JobBar(console) as bar:
            for progress in job.watch():
                bar.show(progress)
                if json:
                    write(progress.model_dump_json() + "\n")
    except (Stopped, ClientError) as error:
        error.add_note(f"the job goes on: `glm4v watch {job.id}` shows it, `glm4v cancel {job.id}` ends it")
        raise
    return _report(job, json)


def _report(job: JobHandle, json: bool) -> int:
    parts = [job_line(job.record)]
    try:
        job.raise_for_failures()
    except JobFailed as failed:
        if failed.codes:
            parts.append(what_next(failed.job, failed.codes))
        exit_code = FAILURES
    else:
        exit_code = SUCCESS
    if not json:
        show(*parts)
    return exit_code
