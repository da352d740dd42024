"""The shape of a GLM-4V vision tower."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

# Hugging Face configurations answer to both names.
_ALIASES = {"num_attention_heads": "num_heads", "num_hidden_layers": "depth"}

# Towers of the same family whose layers differ from this one's.
_OTHER_TOWERS = {"glm_ocr_vision", "glm5_next_vision"}


@dataclass(frozen=True, kw_only=True)
class Glm4vVisionConfig:
    """Sizes of the vision tower; the defaults are GLM-4.1V-9B's.

    Raises:
        ValueError: the sizes cannot be built; the message holds both numbers that disagree.
    """

    depth: int = 24
    hidden_size: int = 1536
    hidden_act: str = "silu"
    attention_bias: bool = False
    attention_dropout: float = 0.0
    num_heads: int = 12
    in_channels: int = 3
    #: Edge in pixels of the square that the learned position table was trained on.
    image_size: int = 336
    patch_size: int = 14
    #: Frames that one patch spans. An image is its one frame, repeated.
    temporal_patch_size: int = 2
    #: Edge in patches of the square that becomes one token.
    spatial_merge_size: int = 2
    #: Width of a token, and of the SwiGLU inside every block.
    out_hidden_size: int = 4096
    #: Width of the SwiGLU in the merger only: 13696 in GLM-4.1V, 10944 in GLM-4.5V.
    intermediate_size: int = 13696
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.head_dim % 4:
            raise ValueError(
                f"head_dim {self.head_dim} (hidden_size {self.hidden_size} / num_heads {self.num_heads}) is not a"
                " multiple of 4: two axes are rotated in pairs"
            )
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.hidden_act != "silu":
            raise ValueError(f"hidden_act {self.hidden_act!r} is not supported: GLM-4V towers use 'silu'")
        if not 0.0 <= self.attention_dropout < 1.0:
            raise ValueError(f"attention_dropout must be in [0, 1), got {self.attention_dropout}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Values in one flattened patch: channels x frames x height x width."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def patches_per_token(self) -> int:
        return self.spatial_merge_size**2

    @property
    def position_grid_size(self) -> int:
        """Edge in patches of the learned position table."""
        return self.image_size // self.patch_size

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Glm4vVisionConfig:
        """Read a Hugging Face `config.json`, whole or its `vision_config`; keys that shape no tower are ignored.

        Raises:
            ValueError: it describes another family's tower, or impossible sizes.
        """
        if "vision_config" in values:
            return cls.from_dict(values["vision_config"])
        model_type = values.get("model_type", "glm4v_vision")
        if model_type in _OTHER_TOWERS:
            raise ValueError(f"model_type {model_type!r} is a different tower: this one reads the glm4v_vision family")
        if "hidden_size" not in values and "out_hidden_size" not in values and "depth" not in values:
            raise ValueError(
                f"no vision configuration in the keys {sorted(values)[:5]}: expected 'vision_config' or its content"
            )
        known = {field.name for field in fields(cls)}
        named = {_ALIASES.get(key, key): value for key, value in values.items()}
        rope = named.get("rope_parameters") or {}
        if "rope_theta" in rope:
            named["rope_theta"] = rope["rope_theta"]
        return cls(**{key: value for key, value in named.items() if key in known})

    @classmethod
    def from_json_file(cls, path: str | Path) -> Glm4vVisionConfig:
        """Read `config.json`, given itself or the directory that holds it."""
        file = Path(path)
        return cls.from_dict(json.loads((file / "config.json" if file.is_dir() else file).read_text()))

    def to_dict(self) -> dict[str, Any]:
        """The fields as a Hugging Face `vision_config` spells them."""
        values = asdict(self)
        theta = values.pop("rope_theta")
        return {"model_type": "glm4v_vision", **values, "rope_parameters": {"rope_type": "axial", "rope_theta": theta}}


_POSITIVE = (
    "depth",
    "hidden_size",
    "num_heads",
    "in_channels",
    "image_size",
    "patch_size",
    "temporal_patch_size",
    "spatial_merge_size",
    "out_hidden_size",
    "intermediate_size",
    "rms_norm_eps",
    "rope_theta",
    "initializer_range",
)
