"""The vision tower of GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-OCR and GLM-5.3-Flash.

Parameter names and shapes are those of the published checkpoints, so a Hugging Face state dict loads strictly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glm4v_core.attention import SegmentContext, axial_rotation, rotate, segment_attention
from glm4v_core.config import Glm4vVisionConfig
from glm4v_core.packing import PackedBatch, patch_positions


class Glm4vVisionModel(nn.Module):
    """Patches of any number of images and videos in, visual tokens out."""

    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        if config.has_position_table:
            self.post_conv_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.embeddings = PositionEmbedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.post_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        merge = config.spatial_merge_size
        self.downsample = nn.Conv2d(config.hidden_size, config.out_hidden_size, kernel_size=merge, stride=merge)
        self.merger = Merger(config)

    def forward(self, pixel_values: Tensor, grid_thw: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Encode patches laid end to end.

        Args:
            pixel_values: normalised patches `(sum(t*h*w), channels * frames * height * width of a patch)`, any float
                dtype, each grid in merge order as the processors return it.
            grid_thw: `(n, 3)` patches of each item along time, height and width; a video may have t > 1.

        Returns:
            Tokens `(sum(t*h*w) / spatial_merge_size**2, out_hidden_size)` in the weights' dtype.

        Raises:
            ValueError: the grids and the patches do not agree.
        """
        batch = PackedBatch.of(grid_thw, self.config.spatial_merge_size)
        if pixel_values.shape != (batch.num_patches, self.config.patch_dim):
            raise ValueError(
                f"grid_thw describes {batch.num_patches} patches of {self.config.patch_dim} values,"
                f" but pixel_values has shape {tuple(pixel_values.shape)}"
            )
        x = self.patch_embed(pixel_values)
        context = self._segment_context(batch, x)
        x = self._placed(x, batch)
        for block in self.blocks:
            x = block(x, context)
        return self.merger(self._merge_patches(self.post_layernorm(x)))

    def _segment_context(self, batch: PackedBatch, x: Tensor) -> SegmentContext:
        positions = batch.positions().to(x.device, non_blocking=True)
        cos, sin = axial_rotation(positions, self.config.head_dim, self.config.rope_theta)
        return SegmentContext.of(batch, cos, sin, x.dtype)

    def _placed(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """Patches in float32, with their learned places where the tower has a table of them."""
        # The sum that runs through the blocks is kept in float32: in bfloat16 its roundings alone double the error of
        # the whole tower (3.1 % against 1.8 % from float32 arithmetic, at full depth with random weights).
        if not self.config.has_position_table:
            return x.float()
        return self.post_conv_layernorm(x).float() + self.embeddings(batch)

    def _merge_patches(self, x: Tensor) -> Tensor:
        # A convolution whose stride is its kernel is one product over each cell; four neighbours in merge order are one
        # cell. (patches, hidden) -> (tokens, hidden * merge * merge), channel first as the kernel is stored.
        cells = x.view(-1, self.config.patches_per_token, x.shape[-1]).transpose(1, 2).flatten(1)
        return F.linear(cells, self.downsample.weight.flatten(1), self.downsample.bias)

    def compile_blocks(self) -> None:
        """Let torch.compile fuse what lies between the matrix products; the first forward takes half a minute more.

        On a CPU this needs a C++ compiler on the machine.
        """
        for block in self.blocks:
            block.compile(dynamic=True)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill with reproducible random weights, as training starts: matrices normal, norms one, biases zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(std=self.config.initializer_range, generator=generator)


class PatchEmbedding(nn.Module):
    """A convolution that visits every patch once, done as the matrix product it is.

    PyTorch's half-precision Conv3d has no fast kernel: the product took 1/20 to 1/10,000 of its time in reports.
    """

    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, kernel_size=kernel, stride=kernel)

    def forward(self, pixel_values: Tensor) -> Tensor:
        weight = self.proj.weight.flatten(1)
        return F.linear(pixel_values.to(weight.dtype), weight, self.proj.bias)


class PositionEmbedding(nn.Module):
    """The learned table of a square image, stretched over each grid by bicubic interpolation in float32."""

    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.position_embedding = nn.Embedding(config.position_grid_size**2, config.hidden_size)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Embeddings of every patch, `(patches, hidden_size)`; equal for all segments of one size."""
        stretched = {(h, w): self._stretch(h, w) for _, h, w in batch.grids}
        return torch.cat([stretched[h, w].repeat(t, 1) for t, h, w in batch.grids])

    def _stretch(self, height: int, width: int) -> Tensor:
        table = self.position_embedding.weight
        edge = self.config.position_grid_size
        square = table.view(edge, edge, -1).permute(2, 0, 1).unsqueeze(0).float()
        positions = patch_positions(height, width, self.config.spatial_merge_size).to(table.device, non_blocking=True)
        # grid_sample takes (x, y) in [-1, 1], pixel centres at half steps.
        rows = (positions[:, 0] + 0.5) / height * 2 - 1
        columns = (positions[:, 1] + 0.5) / width * 2 - 1
        points = torch.stack((columns, rows), dim=-1).view(1, -1, 1, 2)
        sampled = F.grid_sample(square, points, mode="bicubic", padding_mode="border", align_corners=False)
        return sampled.view(table.shape[1], -1).T.to(table.dtype)


class Block(nn.Module):
    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config)
        self.norm2 = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(
            config.hidden_size, config.block_width, bias=config.has_block_biases, limit=config.swiglu_limit
        )

    def forward(self, x: Tensor, context: SegmentContext) -> Tensor:
        x = x + self.attn(self.norm1(x), context)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.has_block_biases)
        self.has_norms = config.has_query_key_norm
        if self.has_norms:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, context: SegmentContext) -> Tensor:
        # (patches, 3 * hidden) -> three of (patches, heads, head_dim)
        query, key, value = self.qkv(x).view(len(x), 3, -1, self.head_dim).unbind(1)
        if self.has_norms:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = (rotate(part, context.cos, context.sin) for part in (query, key))
        dropout = self.dropout if self.training else 0.0
        return self.proj(segment_attention(query, key, value, context, dropout).flatten(1))


class SwiGLU(nn.Module):
    def __init__(self, width: int, inner: int, *, bias: bool, limit: float | None) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return self.down_proj(F.silu(gate) * up)


class Merger(SwiGLU):
    """From merged patches to the width of the language model."""

    def __init__(self, config: Glm4vVisionConfig) -> None:
        super().__init__(config.out_hidden_size, config.merger_width, bias=False, limit=config.swiglu_limit)
        self.proj = nn.Linear(config.out_hidden_size, config.out_hidden_size, bias=False)
        self.post_projection_norm = nn.LayerNorm(config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.gelu(self.post_projection_norm(self.proj(x))))


class RMSNorm(nn.Module):
    """Root mean square norm with its statistics in float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps)
        return normed.to(self.weight.dtype)
