"""Stored tokens in the layouts that SGLang 0.5.23 reads; docs/consumers.md says which of them GLM-4V models take."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from glm4v_core.consumers.stored_tokens import StoredTokens, grids_of, kind_of
from glm4v_core.processor_settings import Features

# SGLang asks for the grids as attributes of what is otherwise a dict: `Features` has both.


def precomputed_embedding(items: Sequence[StoredTokens]) -> Features:
    """The one entry of `image_data` or `video_data` for all pictures, or all clips, of a prompt.

    Returns:
        `format`, `feature` `(tokens of all items, dim)` and `image_grid_thw` or `video_grid_thw` int64 `(items, 3)`.

    Raises:
        ValueError: there is no item, or pictures and clips together.
    """
    kind = kind_of(items)
    return Features(
        {
            "format": "precomputed_embedding",
            "feature": torch.cat([item.embeddings for item in items]),
            f"{kind}_grid_thw": grids_of(items),
        }
    )


def processor_output(items: Sequence[StoredTokens]) -> Features:
    """As `precomputed_embedding`, in the form whose tokens GLM-4V's model does not take for pixels.

    Returns:
        `format`, `modality`, `precomputed_embeddings` `(tokens of all items, dim)` and the grids.

    Raises:
        ValueError: there is no item, or pictures and clips together.
    """
    kind = kind_of(items)
    return Features(
        {
            "format": "processor_output",
            "modality": kind.upper(),
            "precomputed_embeddings": torch.cat([item.embeddings for item in items]),
            f"{kind}_grid_thw": grids_of(items),
        }
    )
