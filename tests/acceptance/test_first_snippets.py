"""The programs that users of the first extraction wrote, as they stand, with the import changed to glm4v_core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

IMAGE = """
from PIL import Image
from glm4v_core import GLM4VEmbeddingPipeline

pipeline = GLM4VEmbeddingPipeline(config)
image = Image.open("image.jpg")
result = pipeline.extract_image_embeddings([image], return_dict=True)
print(tuple(result["embeddings"].shape), result["image_grid_thw"].tolist(), result["embedding_dim"])
"""

VIDEO = """
import torch
from glm4v_core import GLM4VEmbeddingPipeline

pipeline = GLM4VEmbeddingPipeline(config)
video = torch.randn(16, 3, 224, 224)
metadata = {"fps": 30.0, "duration": 0.533, "total_num_frames": 16}
result = pipeline.extract_video_embeddings([video], [metadata], return_dict=True)
print(tuple(result["embeddings"].shape), result["video_grid_thw"].tolist(), result["timestamps"])
"""

CUSTOM = """
from glm4v_core import GLM4VEmbeddingPipeline, Glm4vVisionConfig

config = Glm4vVisionConfig(hidden_size=256, depth=2, num_heads=4, out_hidden_size=512, intermediate_size=1024)
pipeline = GLM4VEmbeddingPipeline(config)
pipeline.to("cpu")
pipeline.eval()
print(pipeline.device, pipeline.dtype, pipeline.config.depth)
"""

SMALL = """
from glm4v_core import Glm4vVisionConfig
config = Glm4vVisionConfig(depth=1, hidden_size=96, num_heads=3, out_hidden_size=128, intermediate_size=160)
"""


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        pytest.param(SMALL + IMAGE, "(176, 128) [[1, 22, 32]] 128", id="image"),
        pytest.param(SMALL + VIDEO, "(64, 128) [[1, 16, 16]] [[0.0]]", id="video"),
        pytest.param(CUSTOM, "cpu torch.float32 2", id="custom configuration"),
        pytest.param(
            IMAGE.replace("(config)", "()"), "(176, 4096) [[1, 22, 32]] 4096", id="full size", marks=pytest.mark.slow
        ),
    ],
)
def test_a_snippet_runs_and_says_that_its_weights_are_random(tmp_path: Path, program: str, printed: str) -> None:
    Image.linear_gradient("L").resize((451, 300)).convert("RGB").save(tmp_path / "image.jpg")

    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == printed
    assert result.stderr.count("RandomWeightsWarning") == 1
