"""`glm4v embed`: from references to files of visual tokens, on this machine, without any server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from glm4v_client.options import Dtype, EmbedOptions
from glm4v_client.states import ItemState, MediaKind
from worker.embedded import EmbeddedRun, Request
from worker.errors import EmbedError, InvalidOptions
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.records import JobProgress
from worker.report import ProgressBar, as_json, summary_table, totals
from worker.sources import SourceList
from worker.stopping import Stopped, StopSignals
from worker.terminal import FAILURES, MOST_ROWS, SUCCESS, USAGE, messages, show, write

RANDOM_WEIGHTS = (
    "these weights are random, so the embeddings mean nothing; --model zai-org/GLM-4.1V-9B-Thinking uses real ones"
)

#: Seconds for finishing what is decoded after Ctrl-C; a second Ctrl-C does not wait for them.
_DRAIN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class EmbedCommand:
    """One command line."""

    sources: Iterable[str]
    out: Path
    model: str
    device: str
    dtype: Dtype | None
    kind: MediaKind
    options: EmbedOptions
    json: bool
    pictures: bool


def embed(command: EmbedCommand) -> int:
    """Embed and report. Returns the exit code."""
    console = messages()
    _configure_logging(console)
    folder = OutputFolder(command.out)
    try:
        with StopSignals() as signals, folder.lock(), closing(SourceList(command.sources)) as sources:
            if not sources:
                raise InvalidOptions("the list names nothing: give it files or URLs, one a line")
            return _Embedding(command, folder, sources, signals, console).run()
    except EmbedError as error:
        console.print("[red]error[/]:", error.message, markup=True)
        return USAGE
    except Stopped as stopped:
        return stopped.exit_code


class _Embedding:
    """The command under way."""

    def __init__(
        self,
        command: EmbedCommand,
        folder: OutputFolder,
        sources: SourceList,
        signals: StopSignals,
        console: Console,
    ) -> None:
        self._command = command
        self._folder = folder
        self._sources = sources
        self._signals = signals
        self._console = console
        self._begun = time.monotonic()
        chosen: dict[str, Any] = {} if command.dtype is None else {"dtype": command.dtype}
        settings = embedded_settings(folder, model=command.model, device=command.device, **chosen)
        self._run = EmbeddedRun(settings)
        #: The last item that was printed as JSON.
        self._printed = 0

    def run(self) -> int:
        self._warn_of_random_weights()
        try:
            with self._console.status(f"loading {escape(self._command.model)}"):
                self._run.start()
            with self._signals.deferred():
                job_id, progress = self._work()
            self._report(job_id, progress)
        except Stopped:
            self._console.print("stopping; the same command goes on from here")
            self._run.stop(_DRAIN_SECONDS)
            raise
        finally:
            self._run.stop()
        return SUCCESS if progress.succeeded == progress.total else FAILURES

    def _work(self) -> tuple[UUID, JobProgress]:
        command = self._command
        request = Request(sources=self._sources, kind=command.kind, options=command.options)
        submission = self._run.submit(request)
        job_id, total = submission.job_id, len(self._sources)
        if submission.done:
            self._console.print(f"going on: {submission.done:,} of {total:,} items were done before")
        if submission.cancelled_jobs:
            self._console.print("an unfinished run of another command in this folder is given up; its results are kept")
        engine = self._run.runtime.engine
        before = engine.statistics().tokens
        with ProgressBar(self._console, total=total, done=submission.done) as bar:
            for progress in self._run.work(job_id):
                self._signals.check()
                bar.show(progress, tokens=engine.statistics().tokens - before)
                if command.json:
                    self._print_finished(job_id)
        return job_id, progress

    def _print_finished(self, job_id: UUID) -> None:
        """Print items in the order given, each as soon as all before it are done."""
        for item in self._run.items(job_id, after=self._printed):
            if item.state in (ItemState.QUEUED, ItemState.RUNNING):
                return
            write(as_json(item, self._folder) + "\n")
            self._printed = item.id

    def _report(self, job_id: UUID, progress: JobProgress) -> None:
        if self._command.pictures:
            self._draw(job_id)
        if not self._command.json:
            # Of a larger run only what failed is listed.
            states = tuple(ItemState) if progress.total <= MOST_ROWS else (ItemState.FAILED, ItemState.CANCELLED)
            rows = islice(self._run.items(job_id, states=states), MOST_ROWS)
            seconds = time.monotonic() - self._begun
            show(summary_table(rows), totals(progress, seconds=seconds, folder=self._folder))
        self._warn_of_random_weights()

    def _draw(self, job_id: UUID) -> None:
        # Brings numpy and Pillow along, which most runs have no use for here.
        from worker.gallery import draw_item

        for item in self._run.items(job_id, states=(ItemState.SUCCEEDED,)):
            try:
                picture = draw_item(item, self._folder)
            except (ValueError, OSError) as error:
                self._console.print("no picture of", item.source, f"({error})", markup=False)
            else:
                shown = ("no picture of", item.source, "(only of files)") if picture is None else ("picture:", picture)
                self._console.print(*shown, markup=False)

    def _warn_of_random_weights(self) -> None:
        if self._command.model.startswith("random:"):
            self._console.print(f"[yellow]warning[/]: {RANDOM_WEIGHTS}")


def _configure_logging(console: Console) -> None:
    # On the console of the progress bar, which makes room for each line.
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, format="%(message)s", force=True)
    logging.captureWarnings(True)
    # Said once, by us, with what to do about it.
    logging.getLogger("worker.encoder").setLevel(logging.ERROR)
