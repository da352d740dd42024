"""What the commands show of a service's jobs and items."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from glm4v_client.records import Counts, Item, Job, JobDetail
from glm4v_client.states import ItemState, JobState

_COLOURS = {
    JobState.FINISHED: "green",
    JobState.RUNNING: "cyan",
    JobState.CANCELLED: "yellow",
    ItemState.SUCCEEDED: "green",
    ItemState.FAILED: "red",
    ItemState.CANCELLED: "yellow",
    ItemState.RUNNING: "cyan",
}


class JobBar:
    """A job's progress on stderr, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[news]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("waiting", total=None, news="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, job: Job) -> None:
        counts = job.counts
        news = [f"[red]{counts.failed:,} failed[/]"] if counts.failed else []
        news += _pace(job)
        self._bar.update(
            self._task,
            description=job.state.value,
            total=counts.total or None,
            completed=counts.done,
            news=", ".join(news),
        )


def jobs_table(jobs: Iterable[Job]) -> Table:
    """A row for each job."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("job", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("left", justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("labels", overflow="fold")
    for job in jobs:
        failed = f"[red]{job.counts.failed:,}[/]" if job.counts.failed else "0"
        created = job.created_at.astimezone().strftime("%m-%d %H:%M")
        left = _duration(job.seconds_left)
        table.add_row(
            str(job.id), _coloured(job.state), _done(job.counts), failed, left, created, escape(job.model), _labels(job)
        )
    return table


def job_details(job: JobDetail) -> Table:
    """Everything of one job that is set, a line each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _details(job):
        if value:
            table.add_row(name, value)
    return table


def items_table(items: Iterable[Item]) -> Table:
    """A row for each item; one that failed says why."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("state")
    table.add_column("kind")
    table.add_column("grid_thw", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("error", overflow="fold")
    for item in items:
        table.add_row(*_item_cells(item))
    return table


def job_line(job: Job) -> str:
    """How a job went, in one line."""
    counts = job.counts
    parts = [f"{counts.succeeded:,} embedded", f"{counts.failed:,} failed"]
    if counts.cancelled:
        parts.append(f"{counts.cancelled:,} cancelled")
    if counts.queued or counts.running:
        parts.append(f"{counts.queued + counts.running:,} to do")
    took = _duration(_seconds_of(job))
    return f"{', '.join(parts)}: {job.tokens:,} tokens{f' in {took}' if took else ''}"


def what_next(job: Job, codes: dict[str, int]) -> str:
    """Why items failed, and what to do about it.

    Args:
        codes: how many failed items have each code.
    """
    reasons = ", ".join(f"[red]{escape(code)}[/] {count:,}" for code, count in codes.items())
    return f"{reasons}: `glm4v items {job.id} --state failed` shows them, `glm4v retry {job.id}` tries them again"


def _details(job: JobDetail) -> Iterable[tuple[str, str]]:
    counts = job.counts
    yield "job", str(job.id)
    yield "state", _coloured(job.state)
    yield "items", ", ".join(f"{number:,} {state}" for state, number in _present(counts)) or "none"
    yield "tokens", f"{job.tokens:,}"
    yield "pace", ", ".join(_pace(job))
    yield "model", escape(job.model)
    yield "priority", str(job.priority)
    yield "options", ", ".join(f"{name} {value}" for name, value in job.options.canonical().items())
    yield "labels", _labels(job)
    yield "owner", escape(job.owner)
    for name in ("created", "closed", "started", "finished", "cancelled"):
        moment: datetime | None = getattr(job, f"{name}_at")
        yield name, "" if moment is None else _moment(moment)
    if job.webhook is not None:
        yield "webhook", f"{escape(job.webhook.url)} ({escape(job.webhook.state)})"
        for delivery in job.webhook.deliveries:
            answer = delivery.error or f"answered {delivery.status}"
            yield "", f"{_moment(delivery.sent_at)} attempt {delivery.attempt}: {escape(answer)}"


def _item_cells(item: Item) -> list[str]:
    seconds, embedding = item.timings.get("total"), item.embedding
    return [
        str(item.position),
        str(item.id),
        escape(item.source),
        _coloured(item.state),
        str(embedding.kind if embedding else item.kind),
        " x ".join(map(str, embedding.grid_thw)) if embedding else "",
        f"{embedding.num_tokens:,}" if embedding else "",
        "" if seconds is None else f"{seconds:.2f} s",
        f"{escape(item.error.code)}: {escape(item.error.message)}" if item.error else "",
    ]


def _present(counts: Counts) -> Iterable[tuple[str, int]]:
    return ((state.value, number) for state in ItemState if (number := getattr(counts, state.value)))


def _pace(job: Job) -> list[str]:
    parts = [] if not job.rate else [f"{job.rate:.3g} items/s"]
    return parts + ([] if job.seconds_left is None else [f"{_duration(job.seconds_left)} left"])


def _coloured(state: JobState | ItemState) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state.value}[/]" if colour else state.value


def _done(counts: Counts) -> str:
    return f"{counts.done:,}/{counts.total:,}"


def _labels(job: Job) -> str:
    return escape(", ".join(f"{name}={value}" for name, value in job.labels.items()))


def _moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _seconds_of(job: Job) -> float | None:
    if job.started_at is None:
        return None
    return ((job.finished_at or job.cancelled_at or job.measured_at) - job.started_at).total_seconds()


def _duration(seconds: float | None) -> str:
    """As 1.2 s or 1:02:03."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
