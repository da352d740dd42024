"""How the API reads a source to show it: by the workers' rules, with less patience."""

from __future__ import annotations

from contextlib import AbstractContextManager

from worker.fetching import open_fetcher
from worker.media import Fetcher
from worker.settings import MIB, Settings

#: A preview is looked at while somebody waits.
_MOST_BYTES = 64 * MIB
_FETCH_SECONDS = 10.0
_SILENCE_SECONDS = 5.0


def open_preview_fetcher(settings: Settings) -> AbstractContextManager[Fetcher]:
    """A fetcher, for the length of a `with` block.

    Raises:
        InvalidSettings: the URL of the sources' store makes no sense.
    """
    hasty = {
        "fetch_timeout_seconds": min(_FETCH_SECONDS, settings.fetch_timeout_seconds),
        "connect_timeout_seconds": min(_SILENCE_SECONDS, settings.connect_timeout_seconds),
        "read_timeout_seconds": min(_SILENCE_SECONDS, settings.read_timeout_seconds),
        "store_timeout_seconds": min(_SILENCE_SECONDS, settings.store_timeout_seconds),
        "store_retries": 0,
        "max_source_bytes": min(_MOST_BYTES, settings.max_source_bytes),
    }
    return open_fetcher(settings.model_copy(update=hasty))
