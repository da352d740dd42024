from __future__ import annotations

from typing import Any

import pytest
import torch

from glm4v_core import Glm4vVisionConfig, Glm4vVisionModel


@pytest.mark.parametrize(
    ("values", "parameters"),
    [
        pytest.param({"model_type": "glm4v_vision", "depth": 24}, 892_498_432, id="GLM-4.1V"),
        pytest.param({"model_type": "glm4v_moe_vision", "intermediate_size": 10944}, 858_681_856, id="GLM-4.5V"),
        pytest.param({"model_type": "glm_ocr_vision"}, 434_120_192, id="GLM-OCR"),
        pytest.param({"model_type": "glm5_next_vision", "out_hidden_size": 4096}, 563_627_008, id="GLM-5.3-Flash"),
    ],
)
def test_each_tower_of_the_family_has_as_many_weights_as_the_published_one(
    values: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        tower = Glm4vVisionModel(Glm4vVisionConfig.from_dict({"vision_config": values}))

    assert sum(weights.numel() for weights in tower.parameters()) == parameters
