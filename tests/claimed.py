"""Claimed items for tests that need no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from glm4v_client.states import MediaKind
from worker.records import ClaimedItem, EmbeddingRecord

_ITEM = ClaimedItem(
    id=1,
    job_id=UUID(int=1),
    position=0,
    source="photo.jpg",
    kind=MediaKind.AUTO,
    model="random:tiny",
    options={},
    attempt=1,
    lease_owner="here",
    suspect=False,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def claimed(number: int = 1, **changes: Any) -> ClaimedItem:
    return replace(_ITEM, id=number, position=number - 1, **changes)


def embedding(**changes: Any) -> EmbeddingRecord:
    values: dict[str, Any] = {
        "content_sha256": "c" * 64,
        "fingerprint": "f" * 64,
        "kind": MediaKind.IMAGE,
        "object_key": "embeddings/ffff/cc/cccc.1234.safetensors",
        "grid_thw": (1, 8, 8),
        "timestamps": None,
        "frame_indices": None,
        "num_tokens": 16,
        "dim": 8,
        "dtype": "float32",
        "byte_size": 512,
        "object_sha256": "0" * 64,
    }
    return EmbeddingRecord(**{**values, **changes})
