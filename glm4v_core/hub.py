"""From a model's name to a local directory that holds its configuration and its vision tower."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_url, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from glm4v_core.fetched import FetchedTowers
from glm4v_core.tower_fetch import CONFIGURATIONS, Progress, fetch_tower
from glm4v_core.weights import INDEX_NAME, WEIGHTS_NAME, CheckpointError, weight_files


def fetch_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """The directory itself, or that of the hub's model of that name.

    A hub model is looked for among the towers that were fetched alone, then in the hub client's cache; what is in
    neither is downloaded, the tower's tensors only, with a progress bar. A broken download goes on where it stopped.

    Raises:
        CheckpointError: it is neither a directory nor a model that the hub gives out; the message says what to do.
    """
    return find_checkpoint(name, revision) or _download(str(name), revision)


def find_checkpoint(name: str | Path, revision: str | None = None) -> Path | None:
    """As `fetch_checkpoint`, but nothing is downloaded: None when the hub's model is not on this machine.

    Raises:
        CheckpointError: it is no directory, and no model on the hub can have this name.
    """
    if Path(name).is_dir():
        return Path(name)
    check_hub_id(str(name))
    return FetchedTowers().find(str(name), revision) or _in_hub_cache(str(name), revision)


def check_hub_id(name: str) -> None:
    """Raises CheckpointError when no model on the hub can have this name."""
    try:
        hf_hub_url(name, "config.json")
    except HFValidationError as error:
        raise CheckpointError(
            f"no directory {name}, and that is not the form of a hub id such as 'zai-org/GLM-4.1V-9B-Thinking'"
        ) from error


def _in_hub_cache(name: str, revision: str | None) -> Path | None:
    """The directory of a model that `hf download` or another program has downloaded whole."""
    try:
        snapshot = Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=True,
                allow_patterns=[*CONFIGURATIONS, INDEX_NAME, WEIGHTS_NAME],
            )
        )
        weight_files(snapshot)
    except (LocalEntryNotFoundError, CheckpointError):
        return None
    return snapshot


def _download(name: str, revision: str | None) -> Path:
    bar = tqdm(desc=f"tower of {name}", unit="B", unit_scale=True, disable=None)  # type: ignore[no-untyped-call]
    with bar:
        return fetch_tower(name, revision, progress=_shown_on(bar))


def _shown_on(bar: tqdm) -> Progress:
    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
