"""The commands that talk to a service. They need httpx, pydantic, rich and typer alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glm4v_client.states import DEFAULT_PRIORITY, HIGHEST_PRIORITY, LOWEST_PRIORITY, JobState
from worker.cli_options import (
    DEFAULT_URL,
    ApiKey,
    Code,
    Fps,
    FromFile,
    JobId,
    JsonLines,
    JsonRecord,
    Kind,
    KindOption,
    Layout,
    Limit,
    MaxFrames,
    MaxPixels,
    MinPixels,
    OptionalJobId,
    Sources,
    StateOfItem,
    StoreAs,
    Url,
    all_sources,
    bounds,
    one_label,
)

if TYPE_CHECKING:
    from rich.console import Console

    from worker.access import Access

app = typer.Typer(rich_markup_mode="rich")

PANEL = "With a service"

_SUBMIT_HELP = """Have images and videos embedded, as one job.

The job's id is printed. Files of this machine are uploaded; the service itself reads http(s):// and s3:// references.

[bold]Examples[/]

  glm4v submit photos/*.jpg s3://media/clip.mp4 --watch

  find /media -name '*.mp4' | glm4v submit --fps 1 --max-frames 64 --label shoot=may -

  job=$(glm4v submit --from list.txt) && glm4v watch $job && glm4v fetch $job --out tokens

Exit code: 0 submitted, and with --watch all succeeded; 1 with --watch: some items failed; 2 it could not be submitted.
"""


@app.command(help=_SUBMIT_HELP, rich_help_panel=PANEL)
def submit(
    sources: Sources = None,
    from_file: FromFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show the progress.")] = False,
    kind: KindOption = Kind.AUTO,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    fps: Fps = None,
    max_frames: MaxFrames = None,
    store_as: StoreAs = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose tokens.", show_default="the service's own")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=LOWEST_PRIORITY, max=HIGHEST_PRIORITY, help="The larger number runs first.")
    ] = DEFAULT_PRIORITY,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A note to find the job by; any number of them.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Is sent the job when it has ended.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Your name of this submission: the same again goes on with the same job."),
    ] = None,
    json: JsonLines = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    options = bounds(min_pixels=min_pixels, max_pixels=max_pixels, fps=fps, max_frames=max_frames, dtype=store_as)
    references = all_sources(sources, from_file)
    labels = dict(pair for text in label or [] if (pair := one_label(text)))

    from glm4v_client.states import MediaKind
    from worker import submit_command, terminal

    command = submit_command.SubmitCommand(
        access=_access(url, api_key),
        sources=references,
        kind=MediaKind(kind),
        options=options,
        model=model,
        priority=priority,
        labels=labels,
        webhook=webhook,
        idempotency_key=idempotency_key,
        watch=watch,
        json=json,
    )
    raise typer.Exit(terminal.run(lambda console: submit_command.submit(command, console)))


_STATUS_HELP = """Show how far a job is, or list the jobs.

The list begins with the newest.

[bold]Examples[/]

  glm4v status

  glm4v status --state running --label shoot=may --json

  glm4v status 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c

Exit code: 0; with a job 1 if some of its items failed; 2 it could not be asked.
"""


@app.command(help=_STATUS_HELP, rich_help_panel=PANEL)
def status(
    job: OptionalJobId = None,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[str | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this label.")] = None,
    limit: Limit = None,
    json: JsonLines = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    pair = one_label(label)
    if job is not None and (state or pair or limit):
        raise typer.BadParameter("--state, --label and --limit choose from the list of jobs: leave them or the job out")

    from worker import job_commands, terminal

    access = _access(url, api_key)
    raise typer.Exit(
        terminal.run(
            lambda console: (
                job_commands.list_jobs(access, console, state=state, label=pair, limit=limit, json=json)
                if job is None
                else job_commands.status(access, job, json=json)
            )
        )
    )


_WATCH_HELP = """Show a job's progress until it has ended.

Ctrl-C ends the watching, not the job.

[bold]Examples[/]

  glm4v watch 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c

  glm4v watch --json 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c | jq .counts.succeeded

Exit code: 0 all items succeeded, 1 some failed, 2 it could not be watched.
"""


@app.command(help=_WATCH_HELP, rich_help_panel=PANEL)
def watch(job: JobId, json: JsonLines = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    from worker import terminal, watch_command

    access = _access(url, api_key)
    raise typer.Exit(terminal.run(lambda console: watch_command.watch(access, job, console, json=json)))


_ITEMS_HELP = """List a job's items.

They come in the order in which they were submitted.

[bold]Examples[/]

  glm4v items 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c --state failed

  glm4v items --json --code not_found 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c | jq -r .source

Exit code: 0, or 2 if they could not be listed.
"""


@app.command(help=_ITEMS_HELP, rich_help_panel=PANEL)
def items(
    job: JobId,
    state: StateOfItem = None,
    code: Code = None,
    limit: Limit = None,
    json: JsonLines = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    from worker import job_commands, terminal

    access = _access(url, api_key)
    raise typer.Exit(
        terminal.run(
            lambda console: job_commands.items(access, job, console, state=state, code=code, limit=limit, json=json)
        )
    )


_FETCH_HELP = """Write each of a job's embeddings to a directory.

It becomes one safetensors file an item, named by its place in the job. A file is complete or not there. \
The same command goes on where it stopped, and brings what has succeeded since. \
Each file is checked against the service's digest.

With --format the items go into shards of 1 GiB, in the job's order, which training programs stream: tar files of \
WebDataset, or Parquet files (pip install 'glm4v-embed[parquet]').

[bold]Examples[/]

  glm4v fetch 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c --out tokens

  glm4v fetch 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c --out shards --format webdataset

Exit code: 0 every item has its file, 1 some have none, 2 it could not begin or go on.
"""


@app.command(help=_FETCH_HELP, rich_help_panel=PANEL)
def fetch(
    job: JobId,
    out: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Directory of the files; one job each.")],
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Files under way at once.")] = 8,
    layout: Annotated[Layout, typer.Option("--format", help="One file an item, or shards of many.")] = Layout.FILES,
    json: JsonLines = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    if json and layout is not Layout.FILES:
        raise typer.BadParameter("it tells of one file an item: leave it or --format out", param_hint="--json")

    from worker import terminal

    def work(console: Console) -> int:
        access = _access(url, api_key)
        if layout is Layout.FILES:
            from worker.fetch_command import fetch

            return fetch(access, job, out, console, concurrency=concurrency, as_json=json)
        from glm4v_client.export import ExportFormat
        from worker.export_command import export_job

        return export_job(access, job, out, console, layout=ExportFormat(layout.value), concurrency=concurrency)

    raise typer.Exit(terminal.run(work))


_CANCEL_HELP = """Start no further item of a job.

What is embedded stays.

[bold]Example[/]

  glm4v cancel 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c

Exit code: 0, or 2 if it could not be cancelled.
"""


@app.command(help=_CANCEL_HELP, rich_help_panel=PANEL)
def cancel(job: JobId, json: JsonRecord = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    from worker import job_commands, terminal

    access = _access(url, api_key)
    raise typer.Exit(terminal.run(lambda _: job_commands.cancel(access, job, json=json)))


_RETRY_HELP = """Queue a job's failed items again.

[bold]Example[/]

  glm4v retry 0199c7a1-6d3e-7c40-9a57-1f1c1c1a2b3c --code host_unreachable

Exit code: 0, also if none had failed; 2 it could not be asked.
"""


@app.command(help=_RETRY_HELP, rich_help_panel=PANEL)
def retry(
    job: JobId, code: Code = None, json: JsonRecord = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    from worker import job_commands, terminal

    access = _access(url, api_key)
    raise typer.Exit(terminal.run(lambda console: job_commands.retry(access, job, console, code=code, json=json)))


def _access(url: str, api_key: str | None) -> Access:
    from worker.access import Access

    return Access(url=url, api_key=api_key)
