"""`glm4v weights`: vision towers without their language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

_WEIGHTS_HELP = "Fetch vision towers without their language models, and list them."

_FETCH_HELP = """Download only the vision tower of a model, or take it out of a checkpoint on this machine.

Of GLM-4.1V-9B that is 1.7 GiB of 20. It goes to the folder of fetched towers ($HF_HOME/glm4v), where --model and \
GLM4V_MODEL find it by the model's name, or to --out. Stop it at any time: the same command goes on where it stopped. \
The directory is printed.

[bold]Examples[/]

  glm4v weights fetch zai-org/GLM-4.1V-9B-Thinking

  glm4v weights fetch /models/GLM-4.5V --out /models/GLM-4.5V-tower

A private or gated model needs a token: HF_TOKEN or `hf auth login`. HF_ENDPOINT names another hub.

Exit code: 0, or 2 if it could not be fetched.
"""

app = typer.Typer(no_args_is_help=True, help=_WEIGHTS_HELP, rich_markup_mode="rich")

_Revision = Annotated[
    str | None, typer.Option(metavar="NAME", help="Branch, tag or commit on the hub.", show_default="main")
]


@app.command("fetch", help=_FETCH_HELP)
def fetch_command(
    model: Annotated[str, typer.Argument(metavar="ID_OR_DIR", help="Hub id, or directory of a full checkpoint.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory of the new checkpoint.")] = None,
    revision: _Revision = None,
) -> None:
    if Path(model).is_dir() and out is None:
        raise typer.BadParameter("name the directory of the new checkpoint", param_hint="--out")
    if Path(model).is_dir() and revision is not None:
        raise typer.BadParameter("a directory has no revisions: leave it out", param_hint="--revision")
    from worker import terminal

    raise typer.Exit(terminal.run(lambda console: _fetch(model, out, revision, console)))


@app.command("list")
def list_command() -> None:
    """List the fetched towers."""
    from rich.filesize import decimal
    from rich.table import Table

    from glm4v_core.fetched import FetchedTowers
    from worker.terminal import show

    towers = FetchedTowers()
    table = Table("model", "revision", "commit", "size", "fetched", box=None, caption=str(towers.root))
    for tower in towers.list():
        revisions, fetched = ", ".join(tower.revisions) or "-", tower.fetched_at.strftime("%Y-%m-%d %H:%M UTC")
        table.add_row(tower.name, revisions, tower.commit[:10], decimal(tower.size), fetched)
    if table.row_count:
        show(table)
    else:
        typer.echo(
            f"no tower in {towers.root}: `glm4v weights fetch zai-org/GLM-4.1V-9B-Thinking` fetches one", err=True
        )


@app.command("path")
def path_command(
    model: Annotated[str, typer.Argument(metavar="ID", help="Hub id.")],
    revision: _Revision = None,
) -> None:
    """Print the directory of a fetched tower."""
    from glm4v_core.fetched import FetchedTowers

    directory = FetchedTowers().find(model, revision)
    if directory is None:
        typer.echo(f"{model} has not been fetched: `glm4v weights fetch {model}` does that", err=True)
        raise typer.Exit(1)
    typer.echo(directory)


def _fetch(model: str, out: Path | None, revision: str | None, console: Console) -> int:
    from glm4v_core.weights import CheckpointError
    from worker.errors import InvalidSettings
    from worker.stopping import Stopped
    from worker.terminal import SUCCESS, write

    try:
        directory = _copy(model, out, revision, console)
    except CheckpointError as error:
        raise InvalidSettings(str(error)) from error
    except Stopped as stopped:
        stopped.add_note("the same command goes on from here")
        raise
    write(f"{directory}\n")
    return SUCCESS


def _copy(model: str, out: Path | None, revision: str | None, console: Console) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from glm4v_core.hub import check_hub_id
    from glm4v_core.tower_fetch import extract_tower, fetch_tower

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("tower", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if out is not None and Path(model).is_dir():
            return extract_tower(Path(model), out, progress=show)
        check_hub_id(model)
        return fetch_tower(model, revision, out=out, progress=show)
