"""The engine's encoder against the pipeline that people call: the same tokens, whatever shares the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glm4v_client.options import Dtype, StoredDtype
from glm4v_client.states import MediaKind
from glm4v_core.config import Glm4vVisionConfig
from glm4v_core.embedding_pipeline import GLM4VEmbeddingPipeline, load_pipeline
from glm4v_core.patches import Patches
from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor
from worker.decode import DecodeLimits, DecoderPool, Header
from worker.encoder import TorchEncoder, load_encoder
from worker.encoding import EncodeRequest, Tokens, join
from worker.engine import Engine
from worker.errors import InvalidOptions, InvalidSettings


@pytest.fixture(scope="module")
def encoder() -> TorchEncoder:
    return load_encoder("random:tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pipeline() -> GLM4VEmbeddingPipeline:
    with pytest.warns(UserWarning, match="random"):
        return load_pipeline("random:tiny")


@pytest.fixture
def engine(encoder: TorchEncoder) -> Iterator[Engine]:
    engine = Engine(encoder, patch_budget=2048)
    engine.start()
    yield engine
    engine.stop()


def request(patches: Patches, dtype: Dtype = "float32") -> EncodeRequest:
    data = memoryview(bytearray(patches.data.numpy().tobytes()))
    return EncodeRequest(patches=data, grid_thw=patches.grid_thw, dtype=dtype)


def tensor(tokens: Tokens) -> torch.Tensor:
    return torch.frombuffer(bytearray(tokens.data), dtype=getattr(torch, tokens.dtype)).view(tokens.shape)


def decode_in_child(path: Path, kind: MediaKind, settings: dict[str, Any]) -> tuple[Header, memoryview]:
    limits = DecodeLimits(max_image_pixels=10**7, max_frame_pixels=10**7, max_frames=10_000, max_duration_seconds=600)
    pool = DecoderPool(size=1, timeout_seconds=60, chunk_patches=600, limits=limits)
    pool.start()
    try:
        with pool.reserve(check=lambda: None) as decoder:
            decoding = decoder.decode(path, kind, settings)
            chunks = [bytes(decoding.read_chunk(size)) for size in decoding.header.chunk_sizes()]
            decoding.finish()
            return decoding.header, memoryview(bytearray(b"".join(chunks)))
    finally:
        pool.stop()


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_images_and_clips_in_shared_batches_become_the_pipelines_tokens(
    engine: Engine, pipeline: GLM4VEmbeddingPipeline, media_dir: Path
) -> None:
    images = [picture(112, 112), picture(300, 200), picture(224, 500)]
    clip = media_dir / "realshort.mp4"
    pipeline.video_processor = pipeline.video_processor.with_options(max_pixels=40_000)
    video, _ = pipeline.video_processor.patches(clip)
    requests = [request(pipeline.image_processor.patches(image)) for image in images]
    requests.insert(1, request(video))

    futures = [engine.submit(each) for each in requests]
    found = [tensor(future.result(60)) for future in futures]

    for image, tokens in zip(images, [found[0], *found[2:]], strict=True):
        expected = pipeline.extract_image_embeddings(image, return_dict=False)
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
    expected = pipeline.extract_video_embeddings(clip, None, return_dict=False)
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-5)


def test_a_clip_that_is_laid_on_a_canvas_becomes_the_pipelines_tokens(tmp_path: Path, media_dir: Path) -> None:
    """GLM-5.3-Flash through the decoding process and the engine's encoder: patches, tower and settings."""
    sizes = {"depth": 1, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 96, "intermediate_size": 64}
    config = Glm4vVisionConfig.from_dict({"model_type": "glm5_next", "vision_config": sizes})
    with pytest.warns(UserWarning, match="random"):
        pipeline = GLM4VEmbeddingPipeline(config)
    pipeline.save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), device="cpu", dtype="float32")
    settings = encoder.processor_settings(MediaKind.VIDEO, {"max_pixels": 50_000, "max_frames": 6})
    clip = media_dir / "realshort.mp4"

    header, data = decode_in_child(clip, MediaKind.VIDEO, settings)
    (tokens,) = encoder.start([EncodeRequest(patches=data, grid_thw=header.grid_thw, dtype="float32")]).tokens()

    assert (settings["fit"], settings["sampler"]) == ("pad", "glm5_next")
    pipeline.video_processor = Glm4vVideoProcessor(**settings)
    expected = pipeline.extract_video_embeddings(clip, None, return_dict=False)
    torch.testing.assert_close(tensor(tokens), expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_stored_in_the_number_format_asked_for(
    encoder: TorchEncoder, pipeline: GLM4VEmbeddingPipeline
) -> None:
    patches = pipeline.image_processor.patches(picture(112, 112))
    dtypes: list[Dtype] = ["float32", "bfloat16", "float16"]
    tokens = encoder.start([request(patches, dtype) for dtype in dtypes]).tokens()
    exact = tensor(tokens[0])
    for each, dtype in zip(tokens, dtypes, strict=True):
        assert (each.dtype, each.shape) == (dtype, (16, encoder.dim))
        torch.testing.assert_close(tensor(each), exact.to(getattr(torch, dtype)), rtol=1e-2, atol=1e-2)


def test_equal_weights_have_equal_identities_and_others_have_not(encoder: TorchEncoder) -> None:
    again = load_encoder("random:tiny", device="cpu", dtype="float32")
    rounded = load_encoder("random:tiny", device="cpu", dtype="bfloat16")
    assert again.identity == encoder.identity
    assert rounded.identity != encoder.identity


def test_options_bound_the_processors(encoder: TorchEncoder) -> None:
    image = encoder.processor_settings(MediaKind.IMAGE, {"max_pixels": 50_000, "fps": 1.0})
    video = encoder.processor_settings(MediaKind.VIDEO, {"max_pixels": 50_000, "fps": 1.0, "max_frames": 9})
    assert image["max_pixels"] == 50_000
    assert "fps" not in image
    assert (video["max_pixels"], video["fps"], video["max_frames"]) == (50_000, 1.0, 9)
    with pytest.raises(InvalidOptions, match="min_pixels"):
        encoder.processor_settings(MediaKind.IMAGE, {"min_pixels": 1})


@pytest.mark.parametrize(
    ("model", "device", "words"),
    [("./no-such-folder", "cpu", "no-such-folder"), ("random:tiny", "abacus", "abacus"), ("", "cpu", "cannot be")],
)
def test_a_model_or_device_that_is_not_there_is_named(model: str, device: str, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        load_encoder(model, device=device, dtype="float32")


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"config\.json"):
        load_encoder(str(tmp_path), device="cpu", dtype="float32")


@pytest.mark.parametrize("dtype", ["float8_e4m3", "int8"])
def test_light_tokens_come_with_their_scales_also_from_a_request_cut_in_two(dtype: StoredDtype) -> None:
    encoder = load_encoder("random:tiny", device="cpu", dtype="float32")
    processor = Glm4vImageProcessor(**encoder.processor_settings(MediaKind.IMAGE, {}))
    patches = memoryview(bytearray(processor.patches(picture(112, 112)).data.numpy().tobytes()) * 2)
    whole = EncodeRequest(patches=patches, grid_thw=(2, 8, 8), dtype="float32")
    exact = tensor(encoder.start([whole]).tokens()[0])

    halves = [replace(whole.part(start, 1), dtype=dtype) for start in (0, 1)]
    light = join(encoder.start(halves).tokens())

    scales = torch.frombuffer(bytearray(light.scales), dtype=torch.float32)
    rows = torch.frombuffer(bytearray(light.data), dtype=torch.int8 if dtype == "int8" else torch.float8_e4m3fn)
    restored = rows.view(light.shape).float() * scales[:, None]
    assert light.shape == exact.shape
    assert (restored - exact).norm() / exact.norm() < 0.04
