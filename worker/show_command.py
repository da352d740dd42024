"""`glm4v show`: what the tokens of one artefact look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from glm4v_client.artefact import Artefact

SHOW_HELP = """Draw the tokens of an artefact into a PNG: principal components as colours, the tokens' lengths, and of \
a video how like each moment is to the one before.

An artefact is a safetensors file that `glm4v embed` or `glm4v fetch` wrote; an item is a number that `glm4v items` \
lists, of the service at $GLM4V_URL.

[bold]Examples[/]

  glm4v show glm4v-output/embeddings/*/*/*.safetensors

  glm4v show 4711 --url http://gpu-box:8000 --out cat.png
"""


def show(
    targets: Annotated[
        list[str], typer.Argument(metavar="ARTEFACT|ITEM...", help="Files, or ids of items.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Where the picture goes.", show_default="NAME.png in this directory"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", envvar="GLM4V_URL", help="The service that has the item.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(metavar="KEY", envvar="GLM4V_API_KEY", help="Its API key.")] = None,
) -> None:
    from rich.console import Console

    from glm4v_client.errors import ClientError
    from worker.portrait import draw_portrait
    from worker.terminal_picture import terminal_picture

    if out is not None and len(targets) > 1:
        raise typer.BadParameter("several pictures cannot go into one file: leave it out", param_hint="--out")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for target in targets:
        try:
            artefact = _read(target, url, api_key)
            picture = draw_portrait(artefact)
            path = out or Path(f"{Path(target).stem if Path(target).exists() else f'item-{target}'}.png")
            picture.save(path)
        except (ClientError, ValueError, KeyError, OSError) as error:
            console.print("[red]error[/]:", f"{target}: {error}")
            raise typer.Exit(1) from error
        if console.is_terminal:
            console.print(terminal_picture(artefact))
        typer.echo(path)


def _read(target: str, url: str | None, api_key: str | None) -> Artefact:
    """An artefact by its file, or by the id of its item."""
    from glm4v_client.artefact import read_artefact
    from glm4v_client.client import EmbeddingClient

    if Path(target).exists():
        with Path(target).open("rb") as file:
            return read_artefact(file)
    if not target.isdecimal():
        raise ValueError("there is no such file, and an item's id is a number")
    with EmbeddingClient(url, api_key=api_key) as client:
        return client.item(int(target)).embedding().artefact
