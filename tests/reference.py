"""Hugging Face's tower on the weights of ours: the oracle of the numerical tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto import AutoConfig, AutoModel

from glm4v_core import Glm4vVisionConfig, Glm4vVisionModel


def random_tower(config: Glm4vVisionConfig, dtype: torch.dtype = torch.float32) -> Glm4vVisionModel:
    with torch.device("meta"):
        tower = Glm4vVisionModel(config)
    tower.to_empty(device="cpu").init_weights(0)
    _unequal_norms(tower)
    return tower.to(dtype).eval()


def reference_tower(tower: Glm4vVisionModel, model_type: str | None = None) -> PreTrainedModel:
    """Shares the tensors, so the full model is held once; strict, so names and shapes are checkpoint's."""
    values = tower.config.to_dict()
    config = AutoConfig.for_model(**{**values, "model_type": model_type or values["model_type"]})
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        reference = AutoModel.from_config(config)
    reference.load_state_dict(tower.state_dict(), strict=True, assign=True)
    # No part of a state dict; made here, the frequencies stay float32 as from_pretrained leaves them.
    reference.rotary_pos_emb = type(reference.rotary_pos_emb)(config)
    return reference.eval()


@torch.no_grad()
def reference_tokens(reference: PreTrainedModel, pixels: Tensor, grids: Sequence[tuple[int, int, int]]) -> Tensor:
    """As get_video_features does it: a video is flattened into one grid for each temporal patch."""
    frames = torch.tensor([(1, h, w) for t, h, w in grids for _ in range(t)])
    return reference(pixels, frames).pooler_output


def random_patches(grids: Sequence[tuple[int, int, int]], config: Glm4vVisionConfig) -> Tensor:
    patches = sum(t * h * w for t, h, w in grids)
    return torch.randn(patches, config.patch_dim, generator=torch.Generator().manual_seed(1))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    difference, size = ours.double() - theirs.double(), theirs.double()
    return float(difference.norm() / size.norm())


@torch.no_grad()
def _unequal_norms(tower: Glm4vVisionModel) -> None:
    # All-one norm weights and zero biases would hide a norm that is skipped or a bias that is dropped.
    generator = torch.Generator().manual_seed(2)
    for parameter in tower.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
