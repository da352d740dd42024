"""`glm4v show`: what the tokens of one artefact look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli_options import DEFAULT_URL, ApiKey, Url

if TYPE_CHECKING:
    from rich.console import Console

    from glm4v_client.artefact import Artefact
    from worker.access import Access

SHOW_HELP = """Draw the tokens of an artefact into a PNG.

It shows principal components as colours, the tokens' lengths, and of a video how like each moment is to the one before.

An artefact is a safetensors file that `glm4v embed` or `glm4v fetch` wrote; an item is a number that `glm4v items` \
lists. The picture's path is printed.

[bold]Examples[/]

  glm4v show glm4v-output/embeddings/*/*/*.safetensors

  glm4v show 4711 --url http://gpu-box:8000 --out cat.png

Exit code: 0, or 2 if one could not be drawn.
"""


def show(
    targets: Annotated[
        list[str], typer.Argument(metavar="ARTEFACT|ITEM...", help="Files, or ids of items.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG", dir_okay=False, help="Where the picture goes.", show_default="NAME.png in this directory"
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    if out is not None and len(targets) > 1:
        raise typer.BadParameter("several pictures cannot go into one file: leave it out", param_hint="--out")

    from worker import terminal
    from worker.access import Access

    access = Access(url=url, api_key=api_key)
    raise typer.Exit(terminal.run(lambda console: _show(targets, out, access, console)))


def _show(targets: list[str], out: Path | None, access: Access, console: Console) -> int:
    from worker.portrait import draw_portrait
    from worker.terminal import SUCCESS, write
    from worker.terminal_picture import terminal_picture

    for target in targets:
        artefact = _read(target, access)
        path = out or _picture_path(target)
        draw_portrait(artefact).save(path, format="PNG")
        if console.is_terminal:
            console.print(terminal_picture(artefact))
        write(f"{path}\n")
    return SUCCESS


def _picture_path(target: str) -> Path:
    return Path(f"{Path(target).stem if Path(target).exists() else f'item-{target}'}.png")


def _read(target: str, access: Access) -> Artefact:
    """An artefact by its file, or by the id of its item.

    Raises:
        ClientError, OSError: it is neither, or cannot be had.
    """
    from glm4v_client.errors import InvalidArgument
    from glm4v_client.visual_tokens import VisualTokens

    if Path(target).exists():
        return VisualTokens(Path(target).read_bytes()).artefact
    if not target.isdecimal():
        raise InvalidArgument(f"there is no file {target}, and an item's id is a number")
    with access.client() as client:
        return client.item(int(target)).embedding().artefact
