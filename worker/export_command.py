"""`glm4v fetch --format`: a job's tokens as shards that training programs stream."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glm4v_client.client import JobHandle
from glm4v_client.errors import InvalidArgument
from glm4v_client.export import ExportFormat, ExportSummary, export
from glm4v_client.exported_item import Exportable
from worker.access import Access
from worker.terminal import FAILURES, SUCCESS, show

#: Items that could not be fetched and are listed one by one.
_MOST_FAILURES = 10


def export_job(
    access: Access,
    job_id: UUID,
    directory: Path,
    console: Console,
    *,
    layout: ExportFormat,
    concurrency: int,
) -> int:
    """Write each embedding that the job has into shards. Returns the exit code."""
    with access.patient_client() as client:
        summary = _export(client.job(job_id), directory, console, layout, concurrency)
    show(*_report(summary))
    return SUCCESS if summary.is_complete else FAILURES


def _export(
    job: JobHandle,
    directory: Path,
    console: Console,
    layout: ExportFormat,
    concurrency: int,
) -> ExportSummary:
    columns = TextColumn("fetching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=job.counts.total)

        def on_item(_: Exportable) -> None:
            bar.update(task, advance=1)

        try:
            return export(job, directory, format=layout, concurrency=concurrency, on_item=on_item)
        except ImportError as error:
            raise InvalidArgument(str(error)) from error


def _report(summary: ExportSummary) -> list[str]:
    size, directory = decimal(summary.byte_size), escape(str(summary.directory))
    lines = [f"{summary.items:,} items ({size}), shards: {len(summary.shards):,}, in {directory}"]
    if summary.without_embedding:
        reasons = ", ".join(f"{escape(reason)} {count:,}" for reason, count in summary.without_embedding.most_common())
        lines.append(f"{summary.without_embedding.total():,} without tokens: {reasons}")
    lines += [
        f"[red]not fetched[/]: {item.position}: {escape(str(error))}" for item, error in summary.failed[:_MOST_FAILURES]
    ]
    if len(summary.failed) > _MOST_FAILURES:
        lines.append(f"and {len(summary.failed) - _MOST_FAILURES:,} more")
    return lines
