"""What decides the values of an item's tokens besides its bytes, as one digest."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm4v_client.artefact import format_version
from glm4v_client.options import StoredDtype
from glm4v_client.states import MediaKind
from worker.encoding import Encoder


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How media of one kind become tokens under one set of options."""

    kind: MediaKind
    #: Hex digest: equal recipes of equal models have equal fingerprints.
    fingerprint: str
    processor_settings: Mapping[str, Any]
    #: Of the stored tokens.
    dtype: StoredDtype


class Recipes:
    """The recipes of one model, each worked out once. Safe to use from many threads."""

    def __init__(self, *, model: str, encoder: Encoder, dtype: StoredDtype) -> None:
        """
        Args:
            dtype: of the stored tokens where an item's options name none.
        """
        self._model = model
        self._encoder = encoder
        self._dtype = dtype
        self._recipes: dict[str, Recipe] = {}
        self._lock = threading.Lock()

    def recipe(self, kind: MediaKind, options: Mapping[str, Any]) -> Recipe:
        """The recipe for an image or a video.

        Raises:
            InvalidOptions: the model cannot do what an option asks for.
        """
        key = _canonical({"kind": kind, "options": dict(options)})
        with self._lock:
            if key not in self._recipes:
                self._recipes[key] = self._work_out(kind, options)
            return self._recipes[key]

    def _work_out(self, kind: MediaKind, options: Mapping[str, Any]) -> Recipe:
        dtype: StoredDtype = options.get("dtype") or self._dtype
        settings = self._encoder.processor_settings(kind, options)
        parts = {
            "format_version": format_version(dtype),
            "kind": kind,
            "model": self._model,
            "encoder": dict(self._encoder.identity),
            "processor": settings,
            "dtype": dtype,
        }
        digest = hashlib.sha256(_canonical(parts).encode()).hexdigest()
        return Recipe(kind=kind, fingerprint=digest, processor_settings=settings, dtype=dtype)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
