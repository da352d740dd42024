"""What is written beside an exported item's tokens."""

from __future__ import annotations

from typing import Any

from glm4v_client.item import ItemView
from glm4v_client.visual_tokens import VisualTokens


def describe(item: ItemView, tokens: VisualTokens) -> dict[str, Any]:
    """JSON values by name: where the tokens come from, and how to read them."""
    header = tokens.header
    return {
        "item_id": item.id,
        "position": item.position,
        "source": item.source,
        "kind": header.kind.value,
        "model": header.model,
        "fingerprint": header.fingerprint,
        "content_sha256": header.content_sha256,
        "grid_thw": list(header.grid_thw),
        "timestamps": None if header.timestamps is None else list(header.timestamps),
        "frame_indices": None if header.frame_indices is None else list(header.frame_indices),
        "num_tokens": header.num_tokens,
        "dim": header.dim,
        "dtype": header.dtype,
    }
