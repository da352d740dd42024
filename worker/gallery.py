"""A picture for each embedded item of a folder: its input beside its tokens."""

from __future__ import annotations

import re
from pathlib import Path

from glm4v_client.artefact import read_artefact
from worker.folder import OutputFolder
from worker.illustration import illustrate
from worker.media import local_path
from worker.records import ItemRecord

_FOLDER = "pictures"


def draw_item(item: ItemRecord, folder: OutputFolder) -> Path | None:
    """Draw an item into the folder. Returns where; None if it failed, or its input is not a file of this machine.

    Raises:
        MediaError, OSError: the input cannot be read any more.
    """
    media = _input(item)
    if item.embedding is None or media is None:
        return None
    with folder.artefact(item.embedding.object_key).open("rb") as file:
        artefact = read_artefact(file)
    target = folder.path / _FOLDER / f"{item.position + 1:04d}-{_plain(media.stem)}.png"
    target.parent.mkdir(exist_ok=True)
    illustrate(media, artefact).save(target)
    return target


def _input(item: ItemRecord) -> Path | None:
    if "://" in item.source and not item.source.lower().startswith("file://"):
        return None
    return local_path(item.source)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:80]
