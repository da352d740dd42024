"""The folder of towers that were fetched alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from huggingface_hub import constants

from glm4v_core.weights import WEIGHTS_NAME

_REFS = "refs"


@dataclass(frozen=True, kw_only=True)
class FetchedTower:
    """One tower in the folder."""

    name: str  #: hub id
    commit: str
    revisions: tuple[str, ...]  #: branches and tags that named this commit when it was fetched
    path: Path
    size: int  #: bytes of its weights
    fetched_at: datetime


class FetchedTowers:
    """`<root>/<owner>--<model>/<commit>/`, and beside the commits `refs/<revision>`, which names one of them."""

    def __init__(self, root: Path | None = None) -> None:
        """
        Args:
            root: `glm4v` in the hub client's home (HF_HOME) when None.
        """
        self.root = root or Path(constants.HF_HOME) / "glm4v"

    def directory(self, name: str, commit: str) -> Path:
        return self._model(name) / commit

    def find(self, name: str, revision: str | None = None) -> Path | None:
        """Where a model's tower lies, if it has been fetched whole. Nothing is asked of the hub."""
        ref = self._ref(name, revision or constants.DEFAULT_REVISION)
        commit = ref.read_text().strip() if ref.is_file() else revision
        if commit is None or "/" in commit or commit.startswith("."):
            return None
        directory = self.directory(name, commit)
        return directory if (directory / WEIGHTS_NAME).is_file() else None

    def note(self, name: str, revision: str | None, commit: str) -> None:
        """Let a revision mean this commit from now on."""
        ref = self._ref(name, revision or constants.DEFAULT_REVISION)
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f".{ref.name}.new")
        fresh.write_text(commit + "\n")
        fresh.replace(ref)

    def list(self) -> list[FetchedTower]:
        """By name, the latest first."""
        weights = self.root.glob(f"*/*/{WEIGHTS_NAME}")
        towers = [self._tower(file) for file in weights if file.parent.name != _REFS]
        return sorted(towers, key=lambda tower: (tower.name, -tower.fetched_at.timestamp()))

    def _tower(self, weights: Path) -> FetchedTower:
        directory, status = weights.parent, weights.stat()
        refs = sorted((directory.parent / _REFS).glob("[!.]*"))
        return FetchedTower(
            name=directory.parent.name.replace("--", "/", 1),
            commit=directory.name,
            revisions=tuple(unquote(ref.name) for ref in refs if ref.read_text().strip() == directory.name),
            path=directory,
            size=status.st_size,
            fetched_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def _model(self, name: str) -> Path:
        return self.root / name.replace("/", "--")

    def _ref(self, name: str, revision: str) -> Path:
        return self._model(name) / _REFS / quote(revision, safe="")
