"""An artefact's rows as arrays: whatever number format they are stored in, with their scales taken in."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from glm4v_client.artefact import SCALED_DTYPES, Artefact

if TYPE_CHECKING:
    import numpy
    import torch

# This package works without numpy and torch; who calls these has them.


def to_torch(artefact: Artefact) -> torch.Tensor:
    """A tensor of its own, (num_tokens, dim), on the CPU: bfloat16 where the rows have scales, else as stored.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    header = artefact.header
    # A copy: torch needs memory that may be written, and the caller may want to write it.
    rows = bytearray(artefact.embeddings)
    if header.dtype not in SCALED_DTYPES:
        return torch.frombuffer(rows, dtype=getattr(torch, header.dtype)).reshape(header.num_tokens, header.dim)
    dtype = torch.int8 if header.dtype == "int8" else torch.float8_e4m3fn
    stored = torch.frombuffer(rows, dtype=dtype).reshape(header.num_tokens, header.dim)
    scales = torch.frombuffer(bytearray(artefact.scales), dtype=torch.float32)
    return (stored.float() * scales[:, None]).bfloat16()


def to_numpy(artefact: Artefact) -> numpy.ndarray:
    """An array of its own, (num_tokens, dim): float16 if stored so, else float32 with the values of `to_torch`.

    Raises:
        ImportError: numpy is not installed.
    """
    import numpy

    header, shape = artefact.header, (artefact.header.num_tokens, artefact.header.dim)
    if header.dtype == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        halves = numpy.frombuffer(artefact.embeddings, "<u2").reshape(shape)
        return (halves.astype("<u4") << 16).view("<f4")
    if header.dtype not in SCALED_DTYPES:
        return numpy.frombuffer(artefact.embeddings, numpy.dtype(header.dtype).newbyteorder("<")).reshape(shape).copy()
    scales = numpy.frombuffer(artefact.scales, "<f4")[:, None]
    if header.dtype == "int8":
        stored = numpy.frombuffer(artefact.embeddings, "i1").reshape(shape).astype("<f4")
    else:
        stored = numpy.array(_float8_values(), "<f4")[numpy.frombuffer(artefact.embeddings, "u1").reshape(shape)]
    return _rounded_to_bfloat16(stored * scales)


def _rounded_to_bfloat16(values: numpy.ndarray) -> numpy.ndarray:
    """To the nearest bfloat16, of two equally near ones to the even, as torch does."""
    bits = values.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype("<u4").view("<f4")


@cache
def _float8_values() -> tuple[float, ...]:
    """The number that each byte stands for in E4M3: no infinities, and one NaN of each sign."""
    return tuple(_float8(byte) for byte in range(256))


def _float8(byte: int) -> float:
    exponent, mantissa = byte >> 3 & 15, byte & 7
    sign = -1.0 if byte & 128 else 1.0
    if (exponent, mantissa) == (15, 7):
        return float("nan")
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (8 + mantissa) * 2.0 ** (exponent - 10)
