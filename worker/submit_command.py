"""`glm4v submit`: references and local files to a service, as one job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from rich.console import Console

from glm4v_client.client import JobHandle
from glm4v_client.options import EmbedOptions
from glm4v_client.states import MediaKind
from worker.access import Access
from worker.errors import InvalidOptions
from worker.terminal import SUCCESS, write
from worker.watch_command import watch_job


@dataclass(frozen=True, kw_only=True)
class SubmitCommand:
    """One command line."""

    access: Access
    sources: Iterable[str]
    kind: MediaKind
    options: EmbedOptions
    model: str | None
    priority: int
    labels: Mapping[str, str]
    webhook: str | None
    idempotency_key: str | None
    watch: bool
    json: bool


def submit(command: SubmitCommand, console: Console) -> int:
    """Make the job, say its id and, if asked, watch it. Returns the exit code."""
    with command.access.patient_client() as client:
        with console.status("submitting") as status:

            def counted() -> Iterator[str]:
                for number, source in enumerate(_at_least_one(command.sources), 1):
                    status.update(f"submitting: {number:,} sources")
                    yield source

            job = client.submit(
                counted(),
                model=command.model,
                priority=command.priority,
                options=command.options,
                kind=command.kind,
                labels=command.labels,
                webhook=command.webhook,
                idempotency_key=command.idempotency_key,
            )
        _say(job, command.json)
        return watch_job(job, console, json=command.json) if command.watch else SUCCESS


def _at_least_one(sources: Iterable[str]) -> Iterator[str]:
    iterator = iter(sources)
    first = next(iterator, None)
    if first is None:
        raise InvalidOptions("the list names nothing: give it files or URLs, one a line")
    return chain([first], iterator)


def _say(job: JobHandle, json: bool) -> None:
    write(f"{job.record.model_dump_json() if json else job.id}\n")
