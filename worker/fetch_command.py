"""`glm4v fetch`: a job's tokens into a directory."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glm4v_client.client import JobHandle
from glm4v_client.downloads import Download, DownloadSummary
from glm4v_client.errors import ClientError
from worker.access import Access
from worker.stopping import Stopped
from worker.terminal import FAILURES, SUCCESS, show, write

#: Downloads that failed and are listed one by one.
_MOST_FAILURES = 10


def fetch(access: Access, job_id: UUID, directory: Path, console: Console, *, concurrency: int, as_json: bool) -> int:
    """Write each embedding that the job has to the directory. Returns the exit code."""
    with access.patient_client() as client:
        job = client.job(job_id)
        try:
            summary = _download(job, directory, console, concurrency, as_json)
        except (Stopped, ClientError) as error:
            error.add_note("the same command goes on from here")
            raise
    if not as_json:
        show(*_report(summary))
    return SUCCESS if summary.is_complete else FAILURES


def _download(job: JobHandle, directory: Path, console: Console, concurrency: int, as_json: bool) -> DownloadSummary:
    columns = TextColumn("fetching"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[size]}")
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=job.counts.total, size="")
        size = 0

        def on_file(download: Download) -> None:
            nonlocal size
            size += download.item.embedding.byte_size if download.path and download.item.embedding else 0
            bar.update(task, advance=1, size=decimal(size))
            if as_json:
                write(_line(download) + "\n")

        return job.download(directory, concurrency=concurrency, on_file=on_file)


def _line(download: Download) -> str:
    item, error = download.item, download.error
    shown = {
        "item": item.id,
        "position": item.position,
        "source": item.source,
        "state": download.state.value,
        "path": str(download.path) if download.path else None,
        "error_code": error.code if error else item.error.code if item.error else None,
        "error_message": str(error) if error else item.error.message if item.error else None,
    }
    return json.dumps(shown)


def _report(summary: DownloadSummary) -> list[str]:
    size, directory = decimal(summary.byte_size), escape(str(summary.directory))
    lines = [f"{summary.written:,} written ({size}), {summary.kept:,} there before, in {directory}"]
    if summary.without_embedding:
        reasons = ", ".join(f"{escape(reason)} {count:,}" for reason, count in summary.without_embedding.most_common())
        lines.append(f"{summary.without_embedding.total():,} without tokens: {reasons}")
    lines += [
        f"[red]not fetched[/]: {download.item.position}: {escape(str(download.error))}"
        for download in summary.failed[:_MOST_FAILURES]
    ]
    if len(summary.failed) > _MOST_FAILURES:
        lines.append(f"and {len(summary.failed) - _MOST_FAILURES:,} more: the same command tries them again")
    return lines
