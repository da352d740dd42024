"""One item's visual tokens in memory, and how to have them as torch, numpy or a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from glm4v_client import restoring
from glm4v_client.artefact import Artefact, ArtefactHeader, read_artefact_header, split_artefact
from glm4v_client.errors import DamagedDownload
from glm4v_client.whole_file import whole_file

if TYPE_CHECKING:
    import numpy
    import torch


class VisualTokens:
    """What a language model reads in place of one picture or clip."""

    def __init__(self, content: bytes | bytearray) -> None:
        """
        Args:
            content: a whole artefact.

        Raises:
            DamagedDownload: it is not one.
        """
        file = io.BytesIO(content)
        try:
            self.header: ArtefactHeader = read_artefact_header(file)
            self.artefact: Artefact = split_artefact(self.header, memoryview(content)[file.tell() :])
        except (ValueError, KeyError) as error:
            raise DamagedDownload(f"this is not an artefact that this client reads: {error}") from error
        #: The whole artefact.
        self.content = content

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens, and numbers of each."""
        return self.header.num_tokens, self.header.dim

    @property
    def dtype(self) -> str:
        """As stored: bfloat16, float16, float32, or with a scale for each token float8_e4m3 or int8."""
        return self.header.dtype

    @property
    def grid_thw(self) -> tuple[int, int, int]:
        """Patches along time, height and width; a token is 2 x 2 of them."""
        return self.header.grid_thw

    @property
    def timestamps(self) -> tuple[float, ...] | None:
        """Seconds, one for each temporal patch; None for an image."""
        return self.header.timestamps

    @property
    def frame_indices(self) -> tuple[int, ...] | None:
        """Which of the source's frames were read; None for an image."""
        return self.header.frame_indices

    def to_torch(self) -> torch.Tensor:
        """A tensor of its own, (tokens, dim) on the CPU: bfloat16 for float8_e4m3 and int8, else as stored.

        Raises:
            ImportError: torch is not installed.
        """
        return restoring.to_torch(self.artefact)

    def to_numpy(self) -> numpy.ndarray:
        """An array of its own, (tokens, dim): float16 if stored so, else float32 with the values of `to_torch`.

        Raises:
            ImportError: numpy is not installed.
        """
        return restoring.to_numpy(self.artefact)

    def save(self, path: str | Path) -> Path:
        """Write the artefact, a safetensors file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with whole_file(Path(path)) as file:
            file.write(self.content)
        return Path(path)

    def __repr__(self) -> str:
        tokens, dim = self.shape
        return f"<VisualTokens {tokens} x {dim} {self.dtype} grid_thw={self.grid_thw}>"
