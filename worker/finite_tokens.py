"""Tokens that can be drawn, whatever an artefact holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from glm4v_client.artefact import Artefact
from glm4v_client.restoring import to_numpy


def finite_tokens(artefact: Artefact) -> tuple[npt.NDArray[np.float64], int]:
    """The tokens of an artefact, and how many of them were taken for zeros: those with a NaN or an infinity.

    Returns:
        `(num_tokens, dim)`, wide enough for sums of squares of any bfloat16.
    """
    tokens = to_numpy(artefact).astype(np.float64)
    is_bad = ~np.isfinite(tokens).all(axis=1)
    tokens[is_bad] = 0.0
    return tokens, int(is_bad.sum())
