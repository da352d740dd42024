"""`glm4v audit`: whether database and store agree, and what is done about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from worker.audit import Audit, Fault, Finding, Looked
from worker.database import create_engine
from worker.errors import InvalidSettings
from worker.folder import OutputFolder
from worker.folder_worker import embedded_settings
from worker.repository import Repository
from worker.settings import Settings, load_settings
from worker.storage import Storage, open_storage
from worker.terminal import FAILURES, MOST_ROWS, SUCCESS, show, write


@dataclass(frozen=True, kw_only=True)
class AuditCommand:
    """One command line."""

    #: The folder of `glm4v embed` or `glm4v serve`; None: the service that GLM4V_DATABASE_URL names.
    out: Path | None
    mend: bool
    digests: bool
    json: bool


def audit(command: AuditCommand, console: Console) -> int:
    """Compare database and store, and report. Returns the exit code: a failure when a finding is left as it is.

    Raises:
        EmbedError: it cannot begin or go on.
    """
    with _opened(command) as (repository, storage):
        report = _Report(command, console)
        with report.progress:
            run = Audit(
                repository=repository,
                storage=storage,
                mend=command.mend,
                digests=command.digests,
                looked=report.count,
            )
            for finding in run.run():
                report.add(finding)
        report.finish()
    return SUCCESS if report.is_sound else FAILURES


@contextmanager
def _opened(command: AuditCommand) -> Iterator[tuple[Repository, Storage]]:
    folder = None if command.out is None else OutputFolder(command.out)
    if folder is not None and not folder.is_made:
        raise InvalidSettings(f"{folder.path} is no folder of `glm4v embed` or `glm4v serve`: name theirs with --out")
    settings = load_settings(Settings) if folder is None else embedded_settings(folder)
    # What is mended is queued again: not beside the folder's worker, which believes it is alone.
    with nullcontext() if folder is None else folder.lock():
        repository = Repository(create_engine(settings.database_url, connections=settings.database_connections))
        with closing(repository):
            repository.check()
            yield repository, open_storage(settings.store_url, settings)


class _Report:
    """What was found so far."""

    def __init__(self, command: AuditCommand, console: Console) -> None:
        self._command = command
        self._console = console
        self._looked: Counter[Looked] = Counter()
        self._faults: Counter[Fault] = Counter()
        self._requeued = 0
        #: Of a larger number only the first are shown as a table.
        self._shown: list[Finding] = []
        self.is_sound = True
        self.progress: Status = console.status("looking at embeddings")

    def count(self, what: Looked, more: int) -> None:
        self._looked[what] += more
        self.progress.update(f"{self._looked_at()}, {_number(self._faults.total(), 'finding')}")

    def add(self, finding: Finding) -> None:
        self._faults[finding.fault] += 1
        self._requeued += finding.requeued
        self.is_sound = self.is_sound and finding.mended
        if self._command.json:
            write(json.dumps(_as_json(finding)) + "\n")
        elif len(self._shown) < MOST_ROWS:
            self._shown.append(finding)

    def finish(self) -> None:
        if not self._faults:
            self._console.print(f"{self._looked_at()}: database and store agree")
            return
        if self._shown:
            show(_table(self._shown))
        hidden = self._faults.total() - len(self._shown)
        if hidden and not self._command.json:
            self._console.print(f"and {hidden:,} more: --json prints all")
        counts = ", ".join(f"{count:,} {fault.value}" for fault, count in sorted(self._faults.items()))
        self._console.print(f"{self._looked_at()}: {counts}")
        if self._command.mend:
            self._console.print(f"mended; to be computed again: {_number(self._requeued, 'item')}")
        else:
            self._console.print("--mend computes missing and damaged ones again, and deletes stray objects")

    def _looked_at(self) -> str:
        embeddings = _number(self._looked[Looked.EMBEDDINGS], "embedding")
        return f"{embeddings} and {_number(self._looked[Looked.OBJECTS], 'object')} looked at"


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "fault": finding.fault.value,
        "object_key": finding.object_key,
        "embedding_id": None if finding.embedding is None else finding.embedding.id,
        "mended": finding.mended,
        "requeued": finding.requeued,
    }


def _table(findings: list[Finding]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("fault")
    table.add_column("")
    table.add_column("object", overflow="fold")
    for finding in findings:
        table.add_row(f"[red]{finding.fault.value}[/]", _meaning(finding), escape(finding.object_key))
    return table


def _meaning(finding: Finding) -> str:
    match finding.fault, finding.mended:
        case Fault.STRAY, False:
            return "no embedding names it"
        case Fault.STRAY, True:
            return "deleted"
        case Fault.MISSING, False:
            return "an embedding's object is not there"
        case Fault.DAMAGED, False:
            return "it is not what was stored"
        case _:
            return f"{_number(finding.requeued, 'item')} to be computed again"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
