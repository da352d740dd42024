"""One item on its way into a shard, and what is written beside its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glm4v_client.visual_tokens import VisualTokens


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """An item whose tokens can be had."""

    position: int  #: place in its job, or among the artefacts of a store
    source: str  #: what was embedded; of a store's artefact, its key
    item_id: int | None  #: of a job's item
    load: Callable[[], VisualTokens]


def describe(item: Exportable, tokens: VisualTokens) -> dict[str, Any]:
    """JSON values by name: where the tokens come from, and how to read them."""
    header = tokens.header
    return {
        "item_id": item.item_id,
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
