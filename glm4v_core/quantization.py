"""Tokens at half their size: one byte a number, and one scale a token."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

QuantizedDtype = Literal["float8_e4m3", "int8"]

#: The largest number of each format.
_LARGEST = {"float8_e4m3": 448.0, "int8": 127.0}


def quantize_rows(tokens: Tensor, dtype: QuantizedDtype) -> tuple[Tensor, Tensor]:
    """Spread each token over the whole range of a one-byte format.

    Args:
        tokens: `(n, dim)`, any float dtype.

    Returns:
        Rows `(n, dim)` of torch.float8_e4m3fn or torch.int8, and float32 scales `(n,)` by which to multiply them.
    """
    values = tokens.float()
    peaks = values.abs().amax(dim=-1)
    # A token of zeros needs some scale; whatever it is, zeros come back.
    scales = torch.where(peaks > 0, peaks / _LARGEST[dtype], torch.ones_like(peaks))
    spread = values / scales[:, None]
    if dtype == "int8":
        return spread.round().clamp(-127, 127).to(torch.int8), scales
    return spread.clamp(-448, 448).to(torch.float8_e4m3fn), scales


def restore_rows(rows: Tensor, scales: Tensor) -> Tensor:
    """The tokens that rows and scales stand for, `(n, dim)` in bfloat16."""
    return (rows.float() * scales[:, None]).bfloat16()
