"""GLM-4V's vision encoder, stand-alone: pixels in, visual tokens out.

Names are imported on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glm4v_core.config import Glm4vVisionConfig
    from glm4v_core.embedding_pipeline import GLM4VEmbeddingPipeline
    from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor
    from glm4v_core.vision_model import Glm4vVisionModel

__all__ = [
    "GLM4VEmbeddingPipeline",
    "Glm4vImageProcessor",
    "Glm4vVideoProcessor",
    "Glm4vVisionConfig",
    "Glm4vVisionModel",
]

_MODULES = {
    "GLM4VEmbeddingPipeline": "embedding_pipeline",
    "Glm4vImageProcessor": "processing",
    "Glm4vVideoProcessor": "processing",
    "Glm4vVisionConfig": "config",
    "Glm4vVisionModel": "vision_model",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
