"""From a full checkpoint, here or on the hub, to a small one that holds the tower alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import torch
from safetensors import safe_open

from glm4v_core.config import Glm4vVisionConfig
from glm4v_core.fetched import FetchedTowers
from glm4v_core.hub_model import HubModel
from glm4v_core.patience import Patience
from glm4v_core.shards import DirectoryShards, Shards
from glm4v_core.tower_file import TowerFile
from glm4v_core.tower_plan import Part, TowerPlan, plan_tower
from glm4v_core.vision_model import Glm4vVisionModel
from glm4v_core.weights import WEIGHTS_NAME, CheckpointError, check_shapes

#: What a checkpoint needs besides its weights; those that it has are copied.
CONFIGURATIONS = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")

#: One connection to the hub does not fill a fast line.
_CONNECTIONS = 4

#: Called with the bytes that are there and the bytes there will be, from any thread but one at a time.
Progress = Callable[[int, int], None]


def _ignore(done: int, total: int) -> None:
    """Nobody watches."""


def fetch_tower(
    name: str,
    revision: str | None = None,
    *,
    out: Path | None = None,
    progress: Progress = _ignore,
    patience: Patience | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    towers: FetchedTowers | None = None,
) -> Path:
    """Download a hub model's tower, and nothing else of its weights, by HTTP range requests.

    Call it again after any failure: it goes on where it stopped. What is there already is not downloaded again.

    Args:
        name: hub id, such as "zai-org/GLM-4.1V-9B-Thinking".
        revision: branch, tag or commit; the default branch when None.
        out: directory of the new checkpoint; when None it goes to the folder of fetched towers, where
            `GLM4VEmbeddingPipeline.from_pretrained(name)` finds it.
        endpoint, token: the hub client's own settings when None.

    Returns:
        The directory of the new checkpoint.

    Raises:
        CheckpointError: the hub does not give it, or it is not the tower that its configuration describes.
    """
    patience, towers = patience or Patience(), towers or FetchedTowers()
    with closing(HubModel(name, revision, endpoint=endpoint, token=token, patience=patience)) as model:
        directory = out or towers.directory(name, model.commit)
        if not _is_done(directory, model):
            _Fetch(model, directory, progress, patience).run()
    if out is None:
        towers.note(name, revision, model.commit)
    return directory


def extract_tower(checkpoint: Path, out: Path, *, progress: Progress = _ignore) -> Path:
    """Copy the tower out of a full checkpoint's directory into a new one.

    Raises:
        CheckpointError: it holds no tower, or `out` has other weights already.
    """
    shards = DirectoryShards(checkpoint)
    if not _is_done(out, shards):
        _Fetch(shards, out, progress, Patience()).run()
    return out


def _is_done(directory: Path, shards: Shards) -> bool:
    """Whether an earlier call has made this very checkpoint; raises CheckpointError when something else lies there."""
    file = directory / WEIGHTS_NAME
    if not file.is_file():
        return False
    with safe_open(file, framework="pt") as weights:
        origin = (weights.metadata() or {}).get("origin")
    if origin != shards.origin:
        raise CheckpointError(
            f"{directory} has another {WEIGHTS_NAME} already, from {origin or 'elsewhere'}:"
            " choose another directory, or remove it"
        )
    return True


class _Fetch:
    """One copy under way."""

    def __init__(self, shards: Shards, directory: Path, progress: Progress, patience: Patience) -> None:
        self._shards = shards
        self._directory = directory
        self._progress = progress
        self._patience = patience
        self._counting = threading.Lock()
        self._done = self._total = 0

    def run(self) -> None:
        # Refused before the first gigabyte, not after the last.
        self._copy_configurations()
        plan = plan_tower(self._shards)
        _check_fit(plan, self._directory)
        file = TowerFile(plan, self._directory)
        with file.locked():
            missing = file.begin()
            self._total = plan.total_bytes
            self._count(plan.total_bytes - sum(part.end - part.begin for part in missing))
            self._copy_parts(file, missing)
            file.finish()

    def _copy_configurations(self) -> None:
        if not self._shards.has("config.json"):
            raise CheckpointError(f"{self._shards.origin} has no config.json: it is no model's checkpoint")
        self._directory.mkdir(parents=True, exist_ok=True)
        for file in CONFIGURATIONS:
            if self._shards.has(file):
                (self._directory / file).write_bytes(self._shards.read(file))

    def _copy_parts(self, file: TowerFile, parts: list[Part]) -> None:
        threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fetch")
        try:
            copies = [threads.submit(self._copy, file, part) for part in parts]
            wait(copies, return_when=FIRST_EXCEPTION)
            failures = [error for copy in copies if copy.done() and (error := copy.exception())]
            if failures:
                raise failures[0]
        finally:
            self._patience.stop()
            threads.shutdown(cancel_futures=True)

    def _copy(self, file: TowerFile, part: Part) -> None:
        for count in file.copy(part, self._shards):
            self._count(count)
            if self._patience.stopped.is_set():
                raise CheckpointError("stopped")

    def _count(self, count: int) -> None:
        with self._counting:
            self._done += count
            self._progress(self._done, self._total)


def _check_fit(plan: TowerPlan, directory: Path) -> None:
    try:
        config = Glm4vVisionConfig.from_json_file(directory)
    except ValueError as error:
        raise CheckpointError(f"{plan.origin}: {error}") from error
    with torch.device("meta"):
        model = Glm4vVisionModel(config)
    check_shapes(model, plan.shapes)
