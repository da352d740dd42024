"""The command line: `glm4v …`. What a command needs is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from worker import show_command, weights_command

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

app.add_typer(weights_command.app, name="weights")
app.command("show", help=show_command.SHOW_HELP)(show_command.show)


@app.callback()
def glm4v() -> None:
    """GLM-V visual tokens of images and videos."""


class Kind(StrEnum):
    AUTO = "auto"
    IMAGE = "image"
    VIDEO = "video"


class DtypeName(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


_EMBED_HELP = """Embed images and videos on this machine, without any server.

Results go into one folder: a safetensors file for each item, and a database of which is which. Stop it at any time: \
the same command goes on where it stopped. A file that was embedded before, or a copy of it, is not computed again.

[bold]Examples[/]

  glm4v embed photos/*.jpg clip.mp4

  glm4v embed --model zai-org/GLM-4.1V-9B-Thinking --out tokens https://example.org/cat.jpg

  find /media -name '*.mp4' | glm4v embed --fps 1 --max-frames 64 --json - > tokens.jsonl

Exit code: 0 all succeeded, 1 some items failed, 2 it could not begin.
"""


@app.command(help=_EMBED_HELP)
def embed(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH_OR_URL...", help="Files and URLs; - reads a list from stdin.", show_default=False),
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Also read a list of them, one a line.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("glm4v-output"),
    model: Annotated[
        str, typer.Option(metavar="DIR_OR_ID", envvar="GLM4V_MODEL", help="Checkpoint folder or hub id.")
    ] = "random:tiny",
    device: Annotated[
        str, typer.Option(envvar="GLM4V_DEVICE", help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.")
    ] = "auto",
    dtype: Annotated[
        DtypeName | None,
        typer.Option(envvar="GLM4V_DTYPE", help="Number format of model and tokens.", show_default="bfloat16"),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="What the files are; auto looks into each.")] = Kind.AUTO,
    min_pixels: Annotated[int | None, typer.Option(metavar="N", help="Least pixels of a frame after resizing.")] = None,
    max_pixels: Annotated[int | None, typer.Option(metavar="N", help="Most pixels of a frame after resizing.")] = None,
    fps: Annotated[float | None, typer.Option(metavar="F", help="Frames sampled per second of video.")] = None,
    max_frames: Annotated[int | None, typer.Option(metavar="N", help="Most frames sampled of one video.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each item.")] = False,
    picture: Annotated[bool, typer.Option("--picture", help="Draw each item's tokens beside its input.")] = False,
) -> None:
    from glm4v_client.states import MediaKind
    from worker import embed_command
    from worker.errors import InvalidOptions
    from worker.options import parse_options

    bounds = {"min_pixels": min_pixels, "max_pixels": max_pixels, "fps": fps, "max_frames": max_frames}
    try:
        options = parse_options(bounds)
    except InvalidOptions as error:
        raise typer.BadParameter(error.message) from error
    command = embed_command.EmbedCommand(
        sources=_all_sources(sources or [], from_file),
        out=out,
        model=model,
        device=device,
        dtype=None if dtype is None else dtype.value,
        kind=MediaKind(kind),
        options=options,
        json=json,
        pictures=picture,
    )
    _leave(embed_command.embed(command))


def main() -> None:
    """The entry point."""
    app()


def _all_sources(arguments: list[str], from_file: Path | None) -> Iterator[str]:
    """Every reference of the command line, lists read as they come.

    Raises:
        typer.BadParameter: there is none, or the list cannot be read.
    """
    if not arguments and from_file is None:
        raise typer.BadParameter("name files or URLs, - for a list on stdin, or --from FILE")
    return _read_sources(arguments, from_file)


def _read_sources(arguments: list[str], from_file: Path | None) -> Iterator[str]:
    from worker.sources import read_lines

    for argument in arguments:
        if argument == "-":
            # A file's name need not be text.
            with open(sys.stdin.fileno(), errors="surrogateescape", closefd=False) as file:
                yield from read_lines(file)
        else:
            yield argument
    if from_file is not None:
        with from_file.open(errors="surrogateescape") as file:
            yield from read_lines(file)


def _leave(exit_code: int) -> NoReturn:
    """End the process now: a thread that still waits for a stranger's socket would keep the interpreter from ending."""
    for stream in (sys.stdout, sys.stderr):
        # The reader of a pipe may have left; that is not worth a traceback.
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(exit_code)
