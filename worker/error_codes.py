"""Errors by their codes: what crosses a process is a code and a message."""

from __future__ import annotations

from worker.errors import EmbedError


def error_from_code(code: str, message: str | None = None) -> EmbedError:
    """Rebuild an error.

    Raises:
        ValueError: no error has this code.
    """
    pending = [EmbedError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message)
        pending.extend(kind.__subclasses__())
    raise ValueError(f"no error has the code {code!r}")
