"""One item's visual tokens in memory, and how to have them as torch, numpy or a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from glm4v_client.artefact import ArtefactHeader, read_artefact_header
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
        except (ValueError, KeyError) as error:
            raise DamagedDownload(f"this is not an artefact that this client reads: {error}") from error
        self._content = content
        self._rows = memoryview(content)[file.tell() :]
        if len(self._rows) != self.header.embeddings_bytes:
            raise DamagedDownload(
                f"the artefact holds {len(self._rows)} bytes of rows instead of {self.header.embeddings_bytes}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens, and numbers of each."""
        return self.header.num_tokens, self.header.dim

    @property
    def dtype(self) -> str:
        """bfloat16, float16 or float32."""
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
        """A tensor of its own, (tokens, dim) in the stored dtype, on the CPU.

        Raises:
            ImportError: torch is not installed.
        """
        # This package works without torch; who calls this has it.
        import torch

        # A copy: torch needs memory that may be written, and the caller may want to write it.
        rows = bytearray(self._rows)
        return torch.frombuffer(rows, dtype=getattr(torch, self.dtype)).reshape(self.shape)

    def to_numpy(self) -> numpy.ndarray:
        """An array of its own, (tokens, dim). numpy has no bfloat16, so that becomes float32, every value exactly.

        Raises:
            ImportError: numpy is not installed.
        """
        # This package works without numpy; who calls this has it.
        import numpy

        if self.dtype != "bfloat16":
            return numpy.frombuffer(self._rows, numpy.dtype(self.dtype).newbyteorder("<")).reshape(self.shape).copy()
        # A bfloat16 is the upper half of a float32.
        halves = numpy.frombuffer(self._rows, "<u2").reshape(self.shape)
        return (halves.astype("<u4") << 16).view("<f4")

    def save(self, path: str | Path) -> Path:
        """Write the artefact, a safetensors file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with whole_file(Path(path)) as file:
            file.write(self._content)
        return Path(path)

    def __repr__(self) -> str:
        tokens, dim = self.shape
        return f"<VisualTokens {tokens} x {dim} {self.dtype} grid_thw={self.grid_thw}>"
