"""The commands that work on this machine: they need the packages of the worker."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from worker.cli_options import (
    Device,
    Dtype,
    Fps,
    FromFile,
    JsonLines,
    Kind,
    KindOption,
    MaxFrames,
    MaxPixels,
    MinPixels,
    Model,
    Sources,
    StoreAs,
    all_sources,
    bounds,
)

app = typer.Typer(rich_markup_mode="rich")

PANEL = "On this machine"

_EMBED_HELP = """Embed images and videos on this machine, without any server.

Results go into one folder: a safetensors file for each item, and a database of which is which. Stop it at any time: \
the same command goes on where it stopped. A file that was embedded before, or a copy of it, is not computed again.

[bold]Examples[/]

  glm4v embed photos/*.jpg clip.mp4

  glm4v embed --model zai-org/GLM-4.1V-9B-Thinking --out tokens https://example.org/cat.jpg

  find /media -name '*.mp4' | glm4v embed --fps 1 --max-frames 64 --json - > tokens.jsonl

Exit code: 0 all succeeded, 1 some items failed, 2 it could not begin.
"""


@app.command(help=_EMBED_HELP, rich_help_panel=PANEL)
def embed(
    sources: Sources = None,
    from_file: FromFile = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("glm4v-output"),
    model: Model = "random:tiny",
    device: Device = "auto",
    dtype: Dtype = None,
    kind: KindOption = Kind.AUTO,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    fps: Fps = None,
    max_frames: MaxFrames = None,
    store_as: StoreAs = None,
    json: JsonLines = False,
    picture: Annotated[bool, typer.Option("--picture", help="Draw each item's tokens beside its input.")] = False,
) -> None:
    options = bounds(min_pixels=min_pixels, max_pixels=max_pixels, fps=fps, max_frames=max_frames, dtype=store_as)
    references = all_sources(sources, from_file)

    from glm4v_client.states import MediaKind
    from worker import embed_command

    command = embed_command.EmbedCommand(
        sources=references,
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


_SERVE_HELP = """Run the service: API, status page and worker.

Alone, it is a whole service in one process: a worker embeds what is submitted, and all of it lies in one folder. \
Stop it at any time: started again, it goes on. With GLM4V_DATABASE_URL and the other settings of docs/operations.md \
it is the API of a service whose workers run elsewhere (`glm4v worker`).

[bold]Examples[/]

  glm4v serve

  glm4v serve --model zai-org/GLM-4.1V-9B-Thinking --out /data/tokens --port 9000

Then, elsewhere: glm4v submit photos/*.jpg --watch

Exit code: 2 it could not begin or go on, 128 + signal when a signal ended it.
"""


@app.command(help=_SERVE_HELP, rich_help_panel=PANEL)
def serve(
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of database and results.", show_default="glm4v-output"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_ID",
            envvar="GLM4V_MODEL",
            help="Checkpoint folder or hub id.",
            show_default="random:tiny",
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own demands GLM4V_API_KEYS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
) -> None:
    from worker import serve_command, terminal

    command = serve_command.ServeCommand(
        out=out,
        model=model,
        device=device,
        dtype=None if dtype is None else dtype.value,
        host=host,
        port=port,
    )
    _leave(terminal.run(lambda console: serve_command.serve(command, console)))


_WORKER_HELP = """Run a worker of a service that has servers.

It is `celery -A worker worker --pool=solo`, and reads GLM4V_DATABASE_URL, GLM4V_BROKER_URL, GLM4V_STORE_URL and the \
other settings of docs/operations.md. SIGTERM lets it finish what it holds. \
Run one for each GPU. What follows -- is Celery's.

[bold]Examples[/]

  CUDA_VISIBLE_DEVICES=1 glm4v worker --name gpu1

  glm4v worker --model /models/GLM-4.1V-9B-Thinking -- --loglevel debug

Exit code: Celery's own; 2 it could not begin.
"""


@app.command(help=_WORKER_HELP, rich_help_panel=PANEL)
def worker(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CELERY...]", help="More for Celery.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What it is called.", show_default="celery")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_ID", help="Checkpoint folder or hub id.", show_default="GLM4V_MODEL")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="GLM4V_DEVICE or auto")
    ] = None,
) -> None:
    from worker import worker_command

    settings = {"GLM4V_MODEL": model, "GLM4V_DEVICE": device}
    chosen = {variable: value for variable, value in settings.items() if value is not None}
    raise typer.Exit(worker_command.work(chosen, name=name, arguments=arguments or []))


_AUDIT_HELP = """Compare the database with the stored files.

It finds embeddings whose file is missing or damaged, and files that no embedding names. With --mend the former are \
computed again and the latter, once a day old, deleted.

[bold]Examples[/]

  glm4v audit --out glm4v-output

  GLM4V_DATABASE_URL=... GLM4V_STORE_URL=... glm4v audit --digests --mend

Exit code: 0 they agree or were mended, 1 something was found, 2 it could not begin or go on.
"""


@app.command(help=_AUDIT_HELP, rich_help_panel=PANEL)
def audit(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of `glm4v embed` or `glm4v serve`.",
            show_default="the servers of GLM4V_DATABASE_URL and GLM4V_STORE_URL",
        ),
    ] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Put in order what is found.")] = False,
    digests: Annotated[bool, typer.Option("--digests", help="Read each file and compare its digest too.")] = False,
    json: JsonLines = False,
) -> None:
    from worker import audit_command, terminal

    command = audit_command.AuditCommand(out=out, mend=mend, digests=digests, json=json)
    raise typer.Exit(terminal.run(lambda console: audit_command.audit(command, console)))


def _leave(exit_code: int) -> NoReturn:
    """End the process now: a thread that still waits for a stranger's socket would keep the interpreter from ending."""
    for stream in (sys.stdout, sys.stderr):
        # The reader of a pipe may have left; that is not worth a traceback.
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(exit_code)
