"""How every command looks and ends: data on stdout, the rest on stderr, an error as a sentence, and its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable

from rich.console import Console, RenderableType
from rich.markup import escape

from glm4v_client.errors import ClientError, ServiceFailed, ServiceUnreachable, Unauthorized
from worker.errors import EmbedError
from worker.stopping import Stopped, StopSignals

#: Exit codes. A command that a signal ends leaves with 128 and the signal's number.
SUCCESS, FAILURES, USAGE = 0, 1, 2

#: Rows of a table; whoever wants more wants --json.
MOST_ROWS = 50

#: Columns of a table that no terminal shows.
_FILE_COLUMNS = 200

_BROKEN_PIPE = 128 + signal.SIGPIPE


def messages() -> Console:
    """What is said beside the data."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def write(text: str) -> None:
    """Write to stdout.

    Raises:
        Stopped: it is a pipe whose reader has left.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise Stopped(signal.SIGPIPE) from error


def show(*parts: RenderableType) -> None:
    """Write tables and lines to stdout, in colour on a terminal and as wide as they need in a file."""
    console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS, highlight=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    # A table fills its lines with blanks, which nobody wants in a file.
    write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def run(work: Callable[[Console], int]) -> int:
    """Do a command's work. Returns its exit code; what ended it early has been said."""
    console = messages()
    try:
        with StopSignals():
            return work(console)
    except (ClientError, EmbedError, OSError) as error:
        console.print(f"[red]error[/]: {escape(_sentence(error))}")
        _say_notes(console, error)
        return USAGE
    except Stopped as stopped:
        if stopped.exit_code != _BROKEN_PIPE:
            _say_notes(console, stopped)
        return stopped.exit_code


def _sentence(error: ClientError | EmbedError | OSError) -> str:
    match error:
        # First: a timeout of the client's is an OSError too.
        case Unauthorized():
            return f"{error.detail} (--api-key or GLM4V_API_KEY)"
        case ServiceUnreachable():
            return f"{error}; --url or GLM4V_URL names another, and `glm4v serve` starts one here"
        case ServiceFailed() if error.request_id:
            return f"{error} (request {error.request_id} in the service's log)"
        case ClientError():
            return str(error)
        case EmbedError():
            return error.message
        case _ if error.filename is not None:
            return f"{error.filename}: {error.strerror}: check the path and that you may use it"
        case _:
            return str(error)


def _say_notes(console: Console, error: BaseException) -> None:
    notes: Iterable[str] = getattr(error, "__notes__", ())
    for note in notes:
        console.print(note, markup=False)
