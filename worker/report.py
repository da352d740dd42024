"""What `glm4v embed` shows: progress while it works, a table or JSON when it has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from worker.folder import OutputFolder
from worker.records import ItemRecord, JobProgress

#: Characters of a digest that tell it from all others in one folder.
_DIGEST_SHOWN = 10


class ProgressBar:
    """Items, tokens per second and the time that is left, on stderr if that is a terminal."""

    def __init__(self, console: Console, *, total: int, done: int) -> None:
        self._bar = Progress(
            TextColumn("embedding"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._begun = time.monotonic()
        self._task = self._bar.add_task("", total=total, completed=done, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: JobProgress, *, tokens: int) -> None:
        """
        Args:
            tokens: encoded by this run alone: those of earlier ones would flatter its speed.
        """
        rate = tokens / max(time.monotonic() - self._begun, 1e-9)
        self._bar.update(self._task, total=progress.total, completed=progress.done, rate=f"{rate:,.0f} tokens/s")


def as_json(item: ItemRecord, folder: OutputFolder) -> str:
    """One item as one line."""
    embedding = item.embedding
    shown: dict[str, Any] = {
        "source": item.source,
        "kind": item.kind if embedding is None else embedding.kind,
        "state": item.state,
        "error_code": item.error_code,
        "error_message": item.error_message,
        "grid_thw": embedding and embedding.grid_thw,
        "timestamps": embedding and embedding.timestamps,
        "tokens": embedding and embedding.num_tokens,
        "artefact": embedding and str(folder.artefact(embedding.object_key)),
        "seconds": item.timings.get("total"),
    }
    return json.dumps(shown)


def summary_table(items: Iterable[ItemRecord]) -> Table:
    """A row for each item; one that failed says why in place of what it became."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("source", overflow="fold")
    table.add_column("kind")
    table.add_column("grid_thw", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("timestamps")
    table.add_column("time", justify="right")
    table.add_column("file", overflow="fold")
    for item in items:
        table.add_row(*_cells(item))
    return table


def totals(progress: JobProgress, *, seconds: float, folder: OutputFolder) -> str:
    """How it went, in one line."""
    parts = [f"{progress.succeeded:,} embedded", f"{progress.failed:,} failed"]
    if progress.cancelled:
        parts.append(f"{progress.cancelled:,} cancelled")
    return f"{', '.join(parts)}: {progress.tokens:,} tokens in {seconds:.1f} s, in {folder.path}"


def _cells(item: ItemRecord) -> list[str]:
    seconds = item.timings.get("total")
    took = "" if seconds is None else f"{seconds:.2f} s"
    embedding = item.embedding
    if embedding is None:
        reason = f"[red]{item.error_code or item.state}[/]: {escape(item.error_message or '')}"
        return [escape(item.source), str(item.kind), "", "", "", took, reason]
    return [
        escape(item.source),
        str(embedding.kind),
        " x ".join(str(number) for number in embedding.grid_thw),
        f"{embedding.num_tokens:,}",
        _short_times(embedding.timestamps),
        took,
        _short_key(embedding.object_key),
    ]


def _short_times(timestamps: tuple[float, ...] | None) -> str:
    if not timestamps:
        return ""
    if len(timestamps) == 1:
        return f"{timestamps[0]:g} s"
    return f"{timestamps[0]:g} to {timestamps[-1]:g} s"


def _short_key(object_key: str) -> str:
    """A key whose digests are cut, so that it fits beside the rest and a shell completes it."""
    top, fingerprint, first, name = object_key.split("/")
    return f"{top}/{fingerprint[:_DIGEST_SHOWN]}…/{first}/{name[:_DIGEST_SHOWN]}….safetensors"
