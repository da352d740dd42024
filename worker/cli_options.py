"""Options that several commands have, and what a shell completes of them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from glm4v_client.states import ItemState

if TYPE_CHECKING:
    from glm4v_client.options import EmbedOptions

#: Where `glm4v serve` listens.
DEFAULT_URL = "http://127.0.0.1:8000"

#: Time that a shell waits for a completion.
_COMPLETION_SECONDS = 2.0
_COMPLETED_JOBS = 20


class Kind(StrEnum):
    AUTO = "auto"
    IMAGE = "image"
    VIDEO = "video"


class DtypeName(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Layout(StrEnum):
    FILES = "files"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


class StoredDtypeName(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT8_E4M3 = "float8_e4m3"
    INT8 = "int8"


def _complete_jobs(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Ids of the latest jobs. Nothing when the service does not answer: a shell has no place for the reason."""
    from itertools import islice

    from glm4v_client import ClientError, EmbeddingClient, RetryPolicy

    url, key = context.params.get("url") or DEFAULT_URL, context.params.get("api_key")
    try:
        with EmbeddingClient(
            url, api_key=key, timeout=_COMPLETION_SECONDS, retry=RetryPolicy(attempts=1, busy_seconds=0)
        ) as client:
            for job in islice(client.jobs(), _COMPLETED_JOBS):
                if str(job.id).startswith(incomplete):
                    yield str(job.id), f"{job.state.value} {job.counts.done:,}/{job.counts.total:,}"
    except ClientError:
        return


def _job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no job's id: `glm4v status` lists them") from error


def _complete_codes(incomplete: str) -> list[str]:
    """Codes that an item can fail with."""
    from worker.errors import PermanentError, TransientError

    pending: list[type[PermanentError] | type[TransientError]] = [PermanentError, TransientError]
    codes = set()
    for kind in pending:
        pending += kind.__subclasses__()
        codes.add(kind.code)
    codes -= {PermanentError.code, TransientError.code}
    return sorted(code for code in codes if code.startswith(incomplete))


Sources = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH_OR_URL...", help="Files and URLs; - reads a list from stdin.", show_default=False),
]
FromFile = Annotated[
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
]
KindOption = Annotated[Kind, typer.Option(help="What the files are; auto looks into each.")]
MinPixels = Annotated[int | None, typer.Option(metavar="N", help="Least pixels of a frame after resizing.")]
MaxPixels = Annotated[int | None, typer.Option(metavar="N", help="Most pixels of a frame after resizing.")]
Fps = Annotated[float | None, typer.Option(metavar="F", help="Frames sampled per second of video.")]
MaxFrames = Annotated[int | None, typer.Option(metavar="N", help="Most frames sampled of one video.")]

Model = Annotated[str, typer.Option(metavar="DIR_OR_ID", envvar="GLM4V_MODEL", help="Checkpoint folder or hub id.")]
Device = Annotated[
    str, typer.Option(envvar="GLM4V_DEVICE", help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.")
]
Dtype = Annotated[
    DtypeName | None,
    typer.Option(envvar="GLM4V_DTYPE", help="Number format of model and tokens.", show_default="bfloat16"),
]
StoreAs = Annotated[
    StoredDtypeName | None,
    typer.Option(
        "--store-as",
        help="Number format of the stored tokens; float8_e4m3 and int8 take half the room.",
        show_default="the model's own",
    ),
]

# A key or a URL from the environment is never printed: both may hold a secret.
Url = Annotated[
    str, typer.Option(metavar="URL", envvar="GLM4V_URL", help="The service.", rich_help_panel="Service", is_eager=True)
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        envvar="GLM4V_API_KEY",
        help="Key to the service; on this machine it may need none.",
        show_default=False,
        rich_help_panel="Service",
        is_eager=True,
    ),
]
JobId = Annotated[
    UUID,
    typer.Argument(
        metavar="JOB", help="The job's id.", parser=_job_id, autocompletion=_complete_jobs, show_default=False
    ),
]
OptionalJobId = Annotated[
    UUID | None,
    typer.Argument(
        metavar="JOB", help="The job's id.", parser=_job_id, autocompletion=_complete_jobs, show_default=False
    ),
]
Code = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="Only items that failed with it.", autocompletion=_complete_codes),
]
StateOfItem = Annotated[ItemState | None, typer.Option("--state", help="Only items in this state.")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="Most rows.", show_default="50; all with --json")]
JsonRecord = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


def bounds(**values: float | str | None) -> EmbedOptions:
    """The options of a command line.

    Raises:
        typer.BadParameter: one makes no sense.
    """
    from worker.errors import InvalidOptions
    from worker.options import parse_options

    try:
        return parse_options(values)
    except InvalidOptions as error:
        raise typer.BadParameter(error.message) from error


def all_sources(arguments: list[str] | None, from_file: Path | None) -> Iterator[str]:
    """Every reference of a command line, lists read as they come.

    Raises:
        typer.BadParameter: there is none.
    """
    if not arguments and from_file is None:
        raise typer.BadParameter("name files or URLs, - for a list on stdin, or --from FILE")
    return _read_sources(arguments or [], from_file)


def _read_sources(arguments: list[str], from_file: Path | None) -> Iterator[str]:
    import sys

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


def one_label(text: str | None) -> tuple[str, str] | None:
    """A label as name=value.

    Raises:
        typer.BadParameter: it is not.
    """
    if text is None:
        return None
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise typer.BadParameter(f"{text!r} is no label: write name=value", param_hint="--label")
    return name, value
