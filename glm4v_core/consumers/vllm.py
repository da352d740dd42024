"""Stored tokens in the layouts that vLLM 0.33 reads; docs/consumers.md says which of them GLM-4V models take."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save
from torch import Tensor

from glm4v_core.consumers.stored_tokens import StoredTokens, grids_of, kind_of

ENCODER_CACHE_NAME = "encoder_cache.safetensors"
ENCODER_CACHE_KEY = "ec_cache"


def embeddings(items: Sequence[StoredTokens]) -> dict[str, Tensor]:
    """What `multi_modal_data` holds under "image" or "video".

    Returns:
        `image_embeds` `(tokens of all items, dim)` and `image_grid_thw` int64 `(items, 3)`, or both named for videos.

    Raises:
        ValueError: there is no item, or pictures and clips together.
    """
    kind = kind_of(items)
    return {f"{kind}_embeds": torch.cat([item.embeddings for item in items]), f"{kind}_grid_thw": grids_of(items)}


def content_part(item: StoredTokens, uuid: str | None = None) -> dict[str, Any]:
    """One part of a chat message in the OpenAI form, its tensors as base64 of `torch.save`.

    Args:
        uuid: by which vLLM keeps the item in its caches.
    """
    kind = kind_of([item])
    # Of one item alone, so its grid is one row without a batch.
    tensors = {f"{kind}_embeds": item.embeddings, f"{kind}_grid_thw": torch.tensor(item.grid_thw)}
    name = f"{kind}_embeds"
    part: dict[str, Any] = {"type": name, name: {name: _encoded(tensor) for name, tensor in tensors.items()}}
    return part if uuid is None else {**part, "uuid": uuid}


def write_encoder_cache(item: StoredTokens, folder: str | Path, mm_hash: str, *, dtype: torch.dtype) -> Path:
    """Write one item where `ECExampleConnector` looks for it, whole or not at all, and return the file.

    Args:
        folder: the connector's `shared_storage_path`.
        mm_hash: the request's uuid for the item; vLLM takes it as the hash where no processor arguments are passed.
        dtype: of the language model: the connector casts nothing.

    Raises:
        ValueError: the hash cannot be a folder's name.
    """
    if mm_hash in ("", ".", "..") or "/" in mm_hash:
        raise ValueError(f"mm_hash {mm_hash!r} cannot be the name of a folder")
    target = Path(folder) / mm_hash / ENCODER_CACHE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    content = save({ENCODER_CACHE_KEY: item.embeddings.detach().to("cpu", dtype).contiguous()})
    # The connector takes a file that is there for a file that is whole.
    unfinished = target.with_name(f"{target.name}.{uuid4().hex}")
    unfinished.write_bytes(content)
    return unfinished.replace(target)


def _encoded(tensor: Tensor) -> str:
    buffer = io.BytesIO()
    # A copy: of a view torch would save the whole storage.
    torch.save(tensor.detach().cpu().clone(), buffer)
    return base64.b64encode(buffer.getvalue()).decode()
