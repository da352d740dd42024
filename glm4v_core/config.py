"""The shape of a GLM-V vision tower."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

#: "glm4v_vision" is the tower of GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-4.6V-Flash, "glm_ocr_vision" GLM-OCR's and
#: "glm5_next_vision" GLM-5.3-Flash's.
Tower = Literal["glm4v_vision", "glm_ocr_vision", "glm5_next_vision"]

# The towers by the names that checkpoints give them, as a whole model's `model_type` or as its vision part's.
_TOWERS: dict[str, Tower] = {
    "glm4v": "glm4v_vision",
    "glm4v_moe": "glm4v_vision",
    "glm46v": "glm4v_vision",
    "glm_ocr": "glm_ocr_vision",
    "glm5_next": "glm5_next_vision",
    "glm4v_vision": "glm4v_vision",
    "glm4v_moe_vision": "glm4v_vision",
    "glm_ocr_vision": "glm_ocr_vision",
    "glm5_next_vision": "glm5_next_vision",
}

# A configuration file may leave out what is its class's default in transformers.
_GLM_OCR = {
    "hidden_size": 1024,
    "num_heads": 16,
    "attention_bias": True,
    "out_hidden_size": 1536,
    "intermediate_size": 4096,
}
_DEFAULTS: dict[Tower, dict[str, Any]] = {
    "glm4v_vision": {},
    "glm_ocr_vision": _GLM_OCR,
    "glm5_next_vision": {**_GLM_OCR, "projection_intermediate_size": 10240, "swiglu_limit": 10.0},
}

# Hugging Face configurations answer to both names.
_ALIASES = {"num_attention_heads": "num_heads", "num_hidden_layers": "depth"}


@dataclass(frozen=True, kw_only=True)
class Glm4vVisionConfig:
    """Sizes of the vision tower; the defaults are GLM-4.1V-9B's.

    Raises:
        ValueError: the sizes cannot be built; the message holds both numbers that disagree.
    """

    model_type: Tower = "glm4v_vision"
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
    #: Width of a token.
    out_hidden_size: int = 4096
    #: Width of the SwiGLU in glm4v_vision's merger, 13696 in GLM-4.1V and 10944 in GLM-4.5V; in the others' blocks.
    intermediate_size: int = 13696
    #: Width of the SwiGLU in glm5_next_vision's merger; the other towers have no such setting.
    projection_intermediate_size: int | None = None
    #: Where every SwiGLU's two factors are cut off; None leaves them as they are.
    swiglu_limit: float | None = None
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.model_type not in _DEFAULTS:
            raise ValueError(f"model_type {self.model_type!r} is none of {', '.join(_DEFAULTS)}")
        if (self.projection_intermediate_size is not None) != (self.model_type == "glm5_next_vision"):
            raise ValueError(
                f"projection_intermediate_size {self.projection_intermediate_size} with model_type"
                f" {self.model_type!r}: glm5_next_vision needs it, the others have none"
            )
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
            raise ValueError(f"hidden_act {self.hidden_act!r} is not supported: GLM-V towers use 'silu'")
        if not 0.0 <= self.attention_dropout < 1.0:
            raise ValueError(f"attention_dropout must be in [0, 1), got {self.attention_dropout}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def has_position_table(self) -> bool:
        """A learned table is added to the normed patches; the other towers know places by rotation alone."""
        return self.model_type == "glm4v_vision"

    @property
    def has_query_key_norm(self) -> bool:
        return self.model_type != "glm4v_vision"

    @property
    def has_block_biases(self) -> bool:
        """glm4v_vision's `attention_bias` speaks of queries, keys and values alone, the others' of the whole block."""
        return self.attention_bias and self.model_type != "glm4v_vision"

    @property
    def block_width(self) -> int:
        """Width of the SwiGLU inside every block."""
        return self.out_hidden_size if self.model_type == "glm4v_vision" else self.intermediate_size

    @property
    def merger_width(self) -> int:
        """Width of the SwiGLU in the merger."""
        if self.model_type == "glm_ocr_vision":
            return self.out_hidden_size * self.in_channels
        return self.projection_intermediate_size or self.intermediate_size

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
            ValueError: it describes another family's model, or impossible sizes; the message names the model.
        """
        vision = values.get("vision_config")
        tower = _tower(values, vision or {})
        if vision is None:
            _check_is_vision(values)
            vision = values
        named = {_ALIASES.get(key, key): value for key, value in vision.items()}
        rope = named.get("rope_parameters") or {}
        if "rope_theta" in rope:
            named["rope_theta"] = rope["rope_theta"]
        known = {field.name for field in fields(cls)}
        return cls(
            **{
                **_DEFAULTS[tower],
                **{key: value for key, value in named.items() if key in known},
                "model_type": tower,
            }
        )

    @classmethod
    def from_json_file(cls, path: str | Path) -> Glm4vVisionConfig:
        """Read `config.json`, given itself or the directory that holds it."""
        file = Path(path)
        return cls.from_dict(json.loads((file / "config.json" if file.is_dir() else file).read_text()))

    def to_dict(self) -> dict[str, Any]:
        """The fields as a Hugging Face `vision_config` spells them."""
        values = asdict(self)
        theta = values.pop("rope_theta")
        values = {name: value for name, value in values.items() if value is not None}
        return {**values, "rope_parameters": {"rope_type": "axial", "rope_theta": theta}}


def _check_is_vision(values: dict[str, Any]) -> None:
    # A language model's configuration has a hidden size too, but also a vocabulary.
    if "vocab_size" in values or not {"hidden_size", "out_hidden_size", "depth"} & values.keys():
        raise ValueError(
            f"no vision configuration in the keys {sorted(values)[:5]}: expected 'vision_config' or its content"
        )


def _tower(model: dict[str, Any], vision: dict[str, Any]) -> Tower:
    """The tower that a configuration and its vision part name; every name in it must be known."""
    names = [part["model_type"] for part in (model, vision) if "model_type" in part]
    for name in names:
        if name not in _TOWERS:
            raise ValueError(f"model_type {name!r} is none of the models that are read here: {', '.join(_TOWERS)}")
    return _TOWERS[names[-1]] if names else "glm4v_vision"


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
    "projection_intermediate_size",
    "swiglu_limit",
    "rms_norm_eps",
    "rope_theta",
    "initializer_range",
)
