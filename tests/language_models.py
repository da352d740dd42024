"""Small language models with random weights, whole: transformers' model and processor, and our tower on its weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from glm4v_core import GLM4VEmbeddingPipeline
from glm4v_core.consumers.prompts import Seconds
from glm4v_core.consumers.stored_tokens import StoredTokens
from worker.artefact import ArtefactWriter

SPECIAL = [
    "<|endoftext|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
]
VOCABULARY = {token: number for number, token in enumerate([*SPECIAL, *map(chr, range(32, 127))])}
VISION = {"depth": 2, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 64, "intermediate_size": 96}
MERGERS = {"Glm5Next": {"projection_intermediate_size": 96}}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0}
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rope_parameters": ROPE,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
# Linear attention in three layers of four, latent attention in the fourth, and no rotation at all.
LATENT = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "linear_head_dim": 16,
    "linear_num_heads": 4,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "hc_mult": 2,
}
TEXTS = {
    "Glm4vMoe": TEXT | EXPERTS,
    "Glm5Next": {key: value for key, value in TEXT.items() if key not in ("rope_parameters", "head_dim")} | LATENT,
}
PROCESSORS = {"Glm4v": "Glm4v", "Glm4vMoe": "Glm4v", "Glm46V": "Glm46V", "GlmOcr": "Glm46V", "Glm5Next": "Glm5Next"}
IDS = {
    f"{name}_token_id": VOCABULARY[token]
    for name, token in {
        "image": "<|image|>",
        "video": "<|video|>",
        "image_start": "<|begin_of_image|>",
        "image_end": "<|end_of_image|>",
        "video_start": "<|begin_of_video|>",
        "video_end": "<|end_of_video|>",
    }.items()
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """One class of transformers, its processor, and the pipeline that makes its tokens."""

    model: Any
    processor: Any
    pipeline: GLM4VEmbeddingPipeline
    seconds: Seconds


@cache
def language_model(name: str, folder: Path) -> LanguageModel:
    """One of `PROCESSORS`; its checkpoint is written to a folder and read back by the pipeline."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        text_config=TEXTS.get(name, TEXT), vision_config=VISION | MERGERS.get(name, {}), **IDS
    )
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    prefix = PROCESSORS[name]
    processor = getattr(transformers, f"{prefix}Processor")(
        image_processor=getattr(transformers, f"{prefix}ImageProcessor")(),
        video_processor=getattr(transformers, f"{prefix}VideoProcessor")(),
        tokenizer=tokenizer(),
    )
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return LanguageModel(
        model=model,
        processor=processor,
        pipeline=GLM4VEmbeddingPipeline.from_pretrained(folder / name),
        seconds="whole" if prefix == "Glm4v" else "tenths",
    )


# As the published templates write pictures and clips.
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% else %}"
    "<|begin_of_{{ part.type }}|><|{{ part.type }}|><|end_of_{{ part.type }}|>{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@cache
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token for each character, and the special ones."""
    characters = Tokenizer(models.WordLevel(VOCABULARY, unk_token=SPECIAL[0]))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token=SPECIAL[0],
        additional_special_tokens=SPECIAL[1:],
        chat_template=CHAT_TEMPLATE,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Frames with what is known of them."""

    frames: np.ndarray
    fps: float

    @property
    def metadata(self) -> dict[str, Any]:
        count = len(self.frames)
        return {"total_num_frames": count, "fps": self.fps, "duration": count / self.fps}


Medium = np.ndarray | Clip


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def clip(frames: int, height: int, width: int, fps: float) -> Clip:
    pixels = np.random.default_rng(frames).integers(0, 256, (frames, 3, height, width), dtype=np.uint8)
    return Clip(frames=pixels, fps=fps)


def store(pipeline: GLM4VEmbeddingPipeline, medium: Medium, path: Path) -> Path:
    """Write a medium's tokens as a worker writes them, in float32."""
    if isinstance(medium, Clip):
        result = pipeline.extract_video_embeddings(medium.frames, medium.metadata)
        (grid,), (timestamps,) = result["video_grid_thw"].tolist(), result["timestamps"]
    else:
        result = pipeline.extract_image_embeddings(medium)
        (grid,), timestamps = result["image_grid_thw"].tolist(), None
    tokens = result["embeddings"]
    header = ArtefactHeader(
        kind=MediaKind.IMAGE if timestamps is None else MediaKind.VIDEO,
        model="random",
        fingerprint="0" * 64,
        content_sha256="0" * 64,
        dtype="float32",
        num_tokens=len(tokens),
        dim=tokens.shape[1],
        grid_thw=tuple(grid),
        timestamps=timestamps and tuple(timestamps),
        frame_indices=timestamps and tuple(range(2 * len(timestamps))),
    )
    with path.open("wb") as file:
        writer = ArtefactWriter(file, header)
        writer.write(tokens.contiguous().numpy().tobytes())
        writer.finish()
    return path


def stored(pipeline: GLM4VEmbeddingPipeline, media: list[Medium], folder: Path) -> list[StoredTokens]:
    """A medium's tokens, by way of a file each."""
    paths = [store(pipeline, medium, folder / f"{number}.safetensors") for number, medium in enumerate(media)]
    return [StoredTokens.read(path) for path in paths]
