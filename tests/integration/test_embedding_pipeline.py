"""The pipeline from media to tokens, against transformers' processors and tower on the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Glm4vImageProcessor as ReferenceImageProcessor
from transformers import Glm4vVideoProcessor as ReferenceVideoProcessor
from transformers import Glm5NextImageProcessor, Glm46VImageProcessor

from glm4v_core import GLM4VEmbeddingPipeline, Glm4vVisionConfig
from glm4v_core.embedding_pipeline import RandomWeightsWarning, load_pipeline
from glm4v_core.weights import CheckpointError
from tests.reference import reference_tower, relative_error

CONFIG = Glm4vVisionConfig(depth=2, hidden_size=64, num_heads=2, out_hidden_size=96, intermediate_size=128)
SMALL = {"depth": 2, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 96, "intermediate_size": 128}
BUDGET = {"shortest_edge": 12_544, "longest_edge": 9_633_792}


@pytest.fixture(scope="module")
def pipeline() -> GLM4VEmbeddingPipeline:
    with pytest.warns(RandomWeightsWarning):
        return GLM4VEmbeddingPipeline(CONFIG)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@torch.no_grad()
def test_images_of_several_sizes_get_the_references_tokens(pipeline: GLM4VEmbeddingPipeline) -> None:
    images = [Image.fromarray(noise(90, 140, 3)), noise(200, 60, 3), torch.from_numpy(noise(3, 56, 84))]

    result = pipeline.extract_image_embeddings(images)

    inputs = ReferenceImageProcessor(size=BUDGET)(images=images, return_tensors="pt")
    theirs = reference_tower(pipeline.visual)(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    assert relative_error(result["embeddings"], theirs) <= 1e-5
    assert torch.equal(result["image_grid_thw"], inputs["image_grid_thw"])
    assert result["num_patches"] == len(inputs["pixel_values"])
    assert result["embedding_dim"] == 96


@torch.no_grad()
def test_videos_with_several_segments_get_the_references_tokens(pipeline: GLM4VEmbeddingPipeline) -> None:
    videos = [noise(48, 3, 60, 90), noise(30, 3, 40, 40, seed=1)]
    metadata = [
        {"fps": 12.0, "total_num_frames": 48, "duration": 4.0},
        {"fps": 10.0, "total_num_frames": 30, "duration": 3.0},
    ]

    result = pipeline.extract_video_embeddings(videos, metadata)

    inputs = ReferenceVideoProcessor()(
        videos=[torch.from_numpy(video) for video in videos], video_metadata=metadata, return_tensors="pt"
    )
    frames = torch.tensor([(1, h, w) for t, h, w in inputs["video_grid_thw"].tolist() for _ in range(t)])
    theirs = reference_tower(pipeline.visual)(inputs["pixel_values_videos"], frames).pooler_output
    assert relative_error(result["embeddings"], theirs) <= 1e-5
    assert torch.equal(result["video_grid_thw"], inputs["video_grid_thw"])
    assert result["timestamps"] == [[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]


def test_features_are_split_by_item(pipeline: GLM4VEmbeddingPipeline) -> None:
    inputs = pipeline.image_processor(images=[noise(56, 112, 3), noise(112, 112, 3)], return_tensors="pt")

    features = pipeline.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])

    assert isinstance(features, tuple)
    assert [len(item) for item in features] == (inputs["image_grid_thw"].prod(-1) // 4).tolist()


def test_videos_are_split_by_video_and_not_by_frame(pipeline: GLM4VEmbeddingPipeline) -> None:
    grids = torch.tensor([[3, 4, 6], [2, 8, 4]])

    features = pipeline.get_video_features(torch.randn(136, 1176), grids)

    assert [tuple(item.shape) for item in features] == [(18, 96), (16, 96)]


def test_both_kinds_in_one_call(pipeline: GLM4VEmbeddingPipeline) -> None:
    metadata = {"fps": 2.0, "total_num_frames": 4, "duration": 2.0}

    result = pipeline(images=noise(56, 56, 3), videos=noise(4, 3, 56, 56), video_metadata=metadata)

    assert set(result) == {"image", "video"}
    with pytest.raises(ValueError, match="pass images, videos or both"):
        pipeline()


def test_moving_and_switching_the_pipeline_reaches_every_part() -> None:
    with pytest.warns(RandomWeightsWarning):
        pipeline = GLM4VEmbeddingPipeline(CONFIG)
    assert not pipeline.training
    assert not pipeline.visual.training

    assert pipeline.train() is pipeline
    assert pipeline.training
    assert pipeline.visual.blocks[0].training
    assert pipeline.eval().to(torch.bfloat16) is pipeline
    assert pipeline.dtype == torch.bfloat16
    assert pipeline.device == torch.device("cpu")
    assert {parameter.dtype for parameter in pipeline.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("return_dict", [True, False])
def test_return_dict_false_gives_the_tensor(pipeline: GLM4VEmbeddingPipeline, return_dict: bool) -> None:
    result = pipeline.extract_image_embeddings(noise(60, 60, 3), return_dict=return_dict)

    assert isinstance(result, dict) is return_dict


@pytest.mark.parametrize("size", [(30, 20), (451, 300), (1000, 872), (13, 400), (4000, 3000), (5000, 60)])
def test_tokens_are_counted_without_decoding(pipeline: GLM4VEmbeddingPipeline, size: tuple[int, int]) -> None:
    width, height = size
    grid = pipeline.image_processor(images=noise(height, width, 3))["image_grid_thw"]

    assert pipeline.count_tokens(width, height) == int(np.prod(np.asarray(grid)[0])) // 4


@pytest.mark.parametrize(("frames", "fps"), [(1, 24.0), (16, 30.0), (75, 25.0), (90, 29.97)])
def test_a_clips_tokens_are_counted_without_decoding(pipeline: GLM4VEmbeddingPipeline, frames: int, fps: float) -> None:
    metadata = {"fps": fps, "total_num_frames": frames}
    inputs = pipeline.video_processor(videos=noise(frames, 3, 50, 70), video_metadata=metadata, return_tensors="pt")

    assert pipeline.count_tokens(70, 50, frames, fps) == int(inputs["video_grid_thw"].prod()) // 4


def test_counting_a_clip_without_its_rate_is_refused(pipeline: GLM4VEmbeddingPipeline) -> None:
    with pytest.raises(ValueError, match="fps"):
        pipeline.count_tokens(70, 50, 16)


@pytest.mark.parametrize("side", ["left", "right"])
def test_items_are_padded_to_a_batch_with_its_mask(side: str) -> None:
    features = [torch.ones(3, 8), torch.full((5, 8), 2.0)]

    batch = GLM4VEmbeddingPipeline.format_for_language_model(features, padding_side=side)  # type: ignore[arg-type]

    embeds, mask = batch["inputs_embeds"], batch["attention_mask"]
    assert embeds.shape == (2, 5, 8)
    assert mask.tolist() == [[0, 0, 1, 1, 1] if side == "left" else [1, 1, 1, 0, 0], [1] * 5]
    assert torch.equal(embeds[0][mask[0].bool()], features[0])
    assert not embeds[0][~mask[0].bool()].any()


def test_a_saved_pipeline_comes_back_with_its_weights_and_processors(
    pipeline: GLM4VEmbeddingPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)

    loaded = GLM4VEmbeddingPipeline.from_pretrained(tmp_path, dtype=torch.float32)

    image = noise(70, 90, 3)
    assert loaded.config == CONFIG
    assert torch.equal(
        loaded.extract_image_embeddings(image, return_dict=False),
        pipeline.extract_image_embeddings(image, return_dict=False),
    )


def test_a_published_checkpoint_decides_sizes_budget_and_sampler(
    pipeline: GLM4VEmbeddingPipeline, tmp_path: Path
) -> None:
    """A directory as the hub lays it out, of a 4.6V model, with its language model's tensors beside the tower's."""
    weights = {f"model.visual.{name}": tensor.clone() for name, tensor in pipeline.visual.state_dict().items()}
    save_file(weights | {"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    vision = CONFIG.to_dict() | {"num_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "glm46v", "vision_config": vision}))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_processor_type": "Glm46VImageProcessor", "size": {"shortest_edge": 12544, "longest_edge": 50176}}
        )
    )
    (tmp_path / "video_preprocessor_config.json").write_text(
        json.dumps({"video_processor_type": "Glm46VVideoProcessor"})
    )

    loaded = GLM4VEmbeddingPipeline.from_pretrained(tmp_path)

    assert loaded.count_tokens(1000, 1000) <= 50176 // 2 // 784
    # Three frame pairs a second where GLM-4.1V samples one.
    assert loaded.count_tokens(56, 56, 240, 24.0) == 3 * pipeline.count_tokens(56, 56, 240, 24.0)

    loaded.save_pretrained(tmp_path / "saved")
    again = GLM4VEmbeddingPipeline.from_pretrained(tmp_path / "saved")
    assert (again.image_processor, again.video_processor) == (loaded.image_processor, loaded.video_processor)


@pytest.mark.parametrize(
    ("model_type", "their_image_processor", "sampler"),
    [
        pytest.param("glm_ocr", Glm46VImageProcessor, "glm46v", id="GLM-OCR"),
        pytest.param("glm5_next", Glm5NextImageProcessor, "glm5_next", id="GLM-5.3-Flash"),
    ],
)
@torch.no_grad()
def test_the_familys_other_towers_come_with_the_processors_of_their_models(
    model_type: str, their_image_processor: type, sampler: str, tmp_path: Path
) -> None:
    config = Glm4vVisionConfig.from_dict({"model_type": model_type, "vision_config": SMALL})
    image = noise(300, 215, 3)
    with pytest.warns(RandomWeightsWarning):
        pipeline = GLM4VEmbeddingPipeline(config)

    pipeline.save_pretrained(tmp_path)
    loaded = GLM4VEmbeddingPipeline.from_pretrained(tmp_path)

    assert loaded.video_processor == pipeline.video_processor
    assert loaded.video_processor.sampler == sampler
    inputs = their_image_processor.from_pretrained(tmp_path)(images=[image], return_tensors="pt")
    theirs = reference_tower(pipeline.visual)(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    assert relative_error(loaded.extract_image_embeddings(image, return_dict=False), theirs) <= 1e-5


def test_a_model_of_another_family_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl", "vision_config": {"depth": 32}}))

    with pytest.raises(CheckpointError, match="'qwen2_vl' is none of the models that are read here"):
        GLM4VEmbeddingPipeline.from_pretrained(tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_refused_by_name(
    pipeline: GLM4VEmbeddingPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["intermediate_size"] = 130
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match=r"merger.*\(128, 96\) instead of \(130, 96\)"):
        GLM4VEmbeddingPipeline.from_pretrained(tmp_path)


def test_a_random_model_is_had_by_its_own_name_with_a_warning() -> None:
    with pytest.warns(RandomWeightsWarning, match="from_pretrained"):
        first = load_pipeline("random:tiny")
    with pytest.warns(RandomWeightsWarning):
        second = load_pipeline("random:tiny", dtype=torch.bfloat16)

    assert second.dtype == torch.bfloat16
    assert torch.equal(first.visual.downsample.weight.bfloat16(), second.visual.downsample.weight)
