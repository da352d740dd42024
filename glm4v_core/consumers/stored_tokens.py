"""One item's tokens, as an artefact holds them, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from safetensors import safe_open
from torch import Tensor

from glm4v_core.packing import Grid
from glm4v_core.quantization import restore_rows

#: Every model of the family merges squares of two patches by two.
MERGE_SIZE = 2
#: The versions of the artefact that are read here; docs/formats.md says how they differ.
FORMAT_VERSIONS = ("1", "2")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTokens:
    """What a language model reads in place of one picture or clip.

    Raises:
        ValueError: the tokens, the grid and the timestamps do not agree; the message holds the numbers.
    """

    #: (tokens, dim), in any float dtype.
    embeddings: Tensor
    #: Patches along time, height and width.
    grid_thw: tuple[int, int, int]
    #: Seconds at which each temporal patch of a clip begins; None for a picture.
    timestamps: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        t, h, w = self.grid_thw
        if self.embeddings.ndim != 2 or len(self.embeddings) != t * self.tokens_per_frame:
            raise ValueError(
                f"grid {self.grid_thw} has {t * self.tokens_per_frame} tokens, but the embeddings have the shape"
                f" {tuple(self.embeddings.shape)}"
            )
        if h % MERGE_SIZE or w % MERGE_SIZE:
            raise ValueError(f"grid {self.grid_thw} cannot be merged: h and w must be multiples of {MERGE_SIZE}")
        if t != (1 if self.timestamps is None else len(self.timestamps)):
            raise ValueError(
                f"grid {self.grid_thw} has {t} temporal patches, but the timestamps are {self.timestamps}:"
                " a clip has one for each, a picture none"
            )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read an artefact; rows that were stored at half their size come back in bfloat16.

        Raises:
            ValueError: the file is no artefact, or of a version that this reader does not know.
        """
        with safe_open(path, framework="pt") as artefact:
            version = (artefact.metadata() or {}).get("format_version")
            if version not in FORMAT_VERSIONS:
                raise ValueError(f"{path} has format version {version!r}: expected one of {', '.join(FORMAT_VERSIONS)}")
            tensors = {name: artefact.get_tensor(name) for name in list(artefact.keys())}
        rows = tensors["embeddings"]
        t, h, w = tensors["grid_thw"][0].tolist()
        return cls(
            embeddings=restore_rows(rows, tensors["scales"]) if "scales" in tensors else rows,
            grid_thw=(t, h, w),
            timestamps=tuple(tensors["timestamps"].tolist()) if "timestamps" in tensors else None,
        )

    @property
    def is_video(self) -> bool:
        return self.timestamps is not None

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one temporal patch, which a prompt writes as one picture."""
        return self.grid_thw[1] * self.grid_thw[2] // MERGE_SIZE**2

    @property
    def frames(self) -> list[Grid]:
        """The grid of each temporal patch alone."""
        t, h, w = self.grid_thw
        return [Grid(1, h, w)] * t


def kind_of(items: Sequence[StoredTokens]) -> Literal["image", "video"]:
    """What all of the items are.

    Raises:
        ValueError: there is none, or both pictures and clips.
    """
    kinds = {item.is_video for item in items}
    if len(kinds) != 1:
        raise ValueError(f"{len(items)} items, pictures and clips together or none: hand over those of one kind")
    return "video" if kinds.pop() else "image"


def grids_of(items: Sequence[StoredTokens]) -> Tensor:
    """int64 `(items, 3)`."""
    return torch.tensor([item.grid_thw for item in items])
