"""Attention inside segments, and the rotation of queries and keys by their place in the segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from glm4v_core.packing import PackedBatch, SegmentGroup

# Scores of one head held at a time on the CPU, so that they stay in its cache from product to product.
_SCORES_AT_ONCE = 640_000


@dataclass(frozen=True)
class SegmentContext:
    """What every block of one forward shares, computed once.

    cos, sin: float32 `(patches, 1, head_dim)`. bounds: int32 `(segments + 1,)`, only where a varlen kernel reads it.
    """

    groups: Sequence[SegmentGroup]
    max_length: int
    cos: Tensor
    sin: Tensor
    bounds: Tensor | None

    @classmethod
    def of(cls, batch: PackedBatch, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> SegmentContext:
        bounds = batch.segment_bounds(cos.device) if _has_varlen_kernel(cos.device, dtype) else None
        return cls(list(batch.segment_groups()), batch.max_segment_length, cos.unsqueeze(1), sin.unsqueeze(1), bounds)


def axial_rotation(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the two-axis rotary embedding (Su et al., 2021), float32 `(patches, head_dim)` each.

    The frequencies are computed anew in float32: kept as a buffer, `.to(torch.bfloat16)` would round them by up to
    0.4 %, which moves a deep tower's output by 1 %.
    """
    spatial_dim = head_dim // 2
    exponents = torch.arange(0, spatial_dim, 2, dtype=torch.float32, device=positions.device) / spatial_dim
    angles = positions[:, :, None].float() * (1.0 / theta**exponents)  # (patches, 2, head_dim / 4)
    angles = angles.flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `(patches, heads, head_dim)` in float32 and return x's dtype."""
    first, second = x.float().chunk(2, dim=-1)
    half = x.shape[-1] // 2
    cos, sin = cos[..., :half], sin[..., :half]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


# Left out of compiled graphs: its loops follow the batch's segments, and its time is in a few large products.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def segment_attention(query: Tensor, key: Tensor, value: Tensor, context: SegmentContext, dropout: float) -> Tensor:
    """Softmax attention within each segment; all of `(patches, heads, head_dim)`, contiguous result.

    A CUDA device in half precision takes one varlen call for the whole batch. Everything else takes one call for each
    run of equal segments.
    """
    if context.bounds is not None and dropout == 0.0:
        bounds, longest = context.bounds, context.max_length
        return cast(Tensor, varlen_attn(query, key, value, bounds, bounds, longest, longest))
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and dropout == 0.0 and not torch.is_grad_enabled():
        return _attend_bfloat16_on_cpu(query, key, value, context.groups)
    parts = []
    for start, segments, length in context.groups:
        rows = slice(start, start + segments * length)
        # (segments, heads, length, head_dim)
        q, k, v = (x[rows].view(segments, length, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        parts.append(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)


def _attend_bfloat16_on_cpu(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[SegmentGroup]) -> Tensor:
    """Twice as fast as scaled_dot_product_attention on a CPU with bfloat16 instructions but no tiles, at equal error.

    oneDNN's bfloat16 product is five times faster than float32, but rounds its result to 8 bits, too coarse for the
    exponent of a softmax. A second product that starts from minus the first one returns what the rounding lost, since
    the sum is held in float32 inside the kernel; together they carry 16 bits.
    """
    output = torch.empty_like(query, memory_format=torch.contiguous_format)
    for start, segments, length in groups:
        for first in range(start, start + segments * length, length):
            rows = slice(first, first + length)
            # (heads, length, head_dim)
            q, k, v = (x[rows].transpose(0, 1).contiguous() for x in (query, key, value))
            _attend_segment(q, k, v, output[rows].transpose(0, 1))
    return output


def _attend_segment(query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
    heads, length, head_dim = query.shape
    rows_at_once = length if length**2 <= _SCORES_AT_ONCE else max(64, _SCORES_AT_ONCE // length // 64 * 64)
    heads_at_once = min(torch.get_num_threads(), heads)
    for first_head in range(0, heads, heads_at_once):
        chosen = slice(first_head, first_head + heads_at_once)
        key_columns, values = key[chosen].transpose(1, 2), value[chosen]
        for first in range(0, length, rows_at_once):
            rows = slice(first, first + rows_at_once)
            scores = _scores(query[chosen, rows], key_columns, head_dim**-0.5)
            output[chosen, rows] = torch.bmm(scores.softmax(-1).to(values.dtype), values)


def _scores(query: Tensor, key_columns: Tensor, scale: float) -> Tensor:
    """scale * query @ key_columns to 16 bits, float32 `(heads, rows, length)`."""
    coarse = torch.baddbmm(query.new_empty(()), query, key_columns, beta=0, alpha=scale)
    lost = torch.baddbmm(coarse, query, key_columns, beta=-1, alpha=scale)
    return coarse.float().add_(lost)


def _has_varlen_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Flash attention needs half precision and compute capability 8.0."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
