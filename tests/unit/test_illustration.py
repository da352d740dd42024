from __future__ import annotations

import numpy as np
import pytest
import torch

from glm4v_client.artefact import Artefact, ArtefactHeader
from glm4v_client.states import MediaKind
from worker.illustration import as_float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_of_every_dtype_are_read_as_torch_reads_them(dtype: str) -> None:
    tokens = torch.randn(6, 8).to(getattr(torch, dtype))
    header = ArtefactHeader(
        kind=MediaKind.IMAGE,
        model="m",
        fingerprint="f",
        content_sha256="c",
        dtype=dtype,
        num_tokens=6,
        dim=8,
        grid_thw=(1, 4, 6),
    )

    rows = as_float32(Artefact(header=header, embeddings=tokens.view(torch.uint8).numpy().tobytes()))

    np.testing.assert_array_equal(rows, tokens.float().numpy())
