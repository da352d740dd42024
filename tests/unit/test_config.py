from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glm4v_core import Glm4vVisionConfig


def test_the_defaults_are_the_checkpoint_of_glm_4_1v() -> None:
    config = Glm4vVisionConfig()

    assert (config.hidden_size, config.depth, config.num_heads) == (1536, 24, 12)
    assert (config.patch_size, config.temporal_patch_size, config.spatial_merge_size) == (14, 2, 2)
    assert (config.out_hidden_size, config.intermediate_size) == (4096, 13696)
    assert (config.head_dim, config.patch_dim, config.patches_per_token) == (128, 1176, 4)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        pytest.param({"hidden_size": 100, "num_heads": 12}, ("100", "12"), id="heads do not divide the width"),
        pytest.param({"hidden_size": 30, "num_heads": 5}, ("6", "30"), id="odd rotary pairs"),
        pytest.param({"image_size": 300}, ("300", "14"), id="no whole number of positions"),
        pytest.param({"depth": 0}, ("depth", "0"), id="no blocks"),
        pytest.param({"attention_dropout": 1.0}, ("attention_dropout", "1.0"), id="everything dropped"),
        pytest.param({"hidden_act": "relu"}, ("relu", "silu"), id="another activation"),
        pytest.param({"model_type": "glm6"}, ("glm6", "glm4v_vision"), id="another tower"),
        pytest.param(
            {"model_type": "glm5_next_vision"}, ("projection_intermediate_size", "None"), id="no merger width"
        ),
    ],
)
def test_impossible_values_raise_with_the_numbers_that_disagree(
    values: dict[str, Any], numbers: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=".*".join(numbers)):
        Glm4vVisionConfig(**values)


@pytest.mark.parametrize("nested", [True, False])
def test_a_hugging_face_configuration_is_read_whole_or_by_its_vision_part(tmp_path: Path, nested: bool) -> None:
    vision = {
        "model_type": "glm4v_vision",
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "hidden_size": 384,
        "intermediate_size": 10944,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 5000.0},
        "transformers_version": "5.23.0",
    }
    values = {"model_type": "glm4v", "vision_config": vision} if nested else vision
    (tmp_path / "config.json").write_text(json.dumps(values))

    config = Glm4vVisionConfig.from_json_file(tmp_path)

    assert (config.num_heads, config.depth, config.hidden_size) == (6, 3, 384)
    assert (config.intermediate_size, config.rope_theta) == (10944, 5000.0)
    assert Glm4vVisionConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "tower", "merger_width"),
    [
        pytest.param(
            {"model_type": "glm4v", "vision_config": {}}, "glm4v_vision", 13696, id="GLM-4.1V, GLM-4.6V-Flash"
        ),
        pytest.param(
            {"model_type": "glm4v_moe", "vision_config": {"model_type": "glm4v_moe", "intermediate_size": 10944}},
            "glm4v_vision",
            10944,
            id="GLM-4.5V, GLM-4.6V",
        ),
        pytest.param(
            {"model_type": "glm46v", "vision_config": {"model_type": "glm4v_vision"}},
            "glm4v_vision",
            13696,
            id="glm46v",
        ),
        pytest.param(
            {"model_type": "glm_ocr", "vision_config": {"model_type": "glm_ocr_vision"}},
            "glm_ocr_vision",
            4608,
            id="GLM-OCR",
        ),
        pytest.param(
            {"model_type": "glm5_next", "vision_config": {"out_hidden_size": 4096}},
            "glm5_next_vision",
            10240,
            id="GLM-5.3-Flash",
        ),
    ],
)
def test_the_tower_is_named_by_the_model_or_by_its_vision_part(
    values: dict[str, Any], tower: str, merger_width: int
) -> None:
    config = Glm4vVisionConfig.from_dict(values)

    assert (config.model_type, config.merger_width) == (tower, merger_width)
    assert Glm4vVisionConfig.from_dict(config.to_dict()) == config


def test_what_a_file_leaves_out_is_the_default_of_its_own_tower() -> None:
    ocr = Glm4vVisionConfig.from_dict({"model_type": "glm_ocr", "vision_config": {"model_type": "glm_ocr_vision"}})

    assert (ocr.hidden_size, ocr.num_heads, ocr.head_dim, ocr.out_hidden_size) == (1024, 16, 64, 1536)
    assert ocr.has_block_biases
    assert ocr.has_query_key_norm
    assert not ocr.has_position_table


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"model_type": "glmga", "vision_config": {"model_type": "glm4v_vision"}}, "glmga"),
        ({"model_type": "qwen2_vl", "vision_config": {"hidden_size": 1280}}, "qwen2_vl"),
        ({"model_type": "glm4v", "vision_config": {"model_type": "siglip_vision_model"}}, "siglip_vision_model"),
        ({"model_type": "glm4_moe", "hidden_size": 4096}, "glm4_moe"),
    ],
)
def test_another_familys_model_is_refused_by_name(values: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'.*glm4v, glm4v_moe, glm46v, glm_ocr, glm5_next"):
        Glm4vVisionConfig.from_dict(values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"model_type": "glm4v_vision", "vocab_size": 7}, id="no size of a tower"),
        pytest.param({"model_type": "glm5_next", "vocab_size": 7, "hidden_size": 64}, id="a language model's"),
        pytest.param({"model_type": "glm4v", "vision_config": None, "hidden_size": 64, "vocab_size": 7}, id="none"),
    ],
)
def test_a_file_without_a_vision_configuration_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="vision_config"):
        Glm4vVisionConfig.from_dict(values)
