"""Images and videos in, visual tokens out: processors and encoder behind one door."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from glm4v_core.config import Glm4vVisionConfig
from glm4v_core.hub import fetch_checkpoint
from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor
from glm4v_core.processor_files import IMAGE_FILE, VIDEO_FILE, default_settings, image_file, video_file
from glm4v_core.vision_model import Glm4vVisionModel
from glm4v_core.weights import CheckpointError, load_tensors, read_visual_tensors, save_visual_tensors

#: Towers that can be had by name with random weights, for trials and tests.
RANDOM_CONFIGS = {
    "random:tiny": Glm4vVisionConfig(depth=4, hidden_size=192, num_heads=3, out_hidden_size=256, intermediate_size=512),
    "random:full": Glm4vVisionConfig(),
}


class RandomWeightsWarning(UserWarning):
    """The weights are random, so the embeddings mean nothing: load real ones with `from_pretrained`."""


class GLM4VEmbeddingPipeline(nn.Module):
    """The vision tower with the processors that belong to it.

    `GLM4VEmbeddingPipeline(config)` has seeded random weights and says so; `from_pretrained` reads real ones.

    Attributes:
        visual: the tower. image_processor, video_processor: what turns media into its patches.
    """

    def __init__(self, config: Glm4vVisionConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self._build(config or Glm4vVisionConfig())
        self.visual.to_empty(device="cpu").init_weights(seed)
        warnings.warn(str(RandomWeightsWarning.__doc__), RandomWeightsWarning, stacklevel=2)

    def _build(self, config: Glm4vVisionConfig) -> None:
        self.config = config
        with torch.device("meta"):
            self.visual = Glm4vVisionModel(config)
        self.image_processor, self.video_processor = default_processors(config)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load a checkpoint's tower and processors from a directory or from the hub.

        Only the tensors under `model.visual.` (or `visual.`) are read, and of a hub model only their bytes are
        downloaded.

        Args:
            name: directory or hub id, such as "zai-org/GLM-4.1V-9B-Thinking".
            revision: branch, tag or commit on the hub.
            dtype: of the weights; as stored when None.

        Raises:
            CheckpointError: there is no such model, it is of another family, or it does not fit its configuration.
        """
        directory = fetch_checkpoint(name, revision)
        pipeline = cls.__new__(cls)
        nn.Module.__init__(pipeline)
        with _named_errors(name):
            pipeline._build(Glm4vVisionConfig.from_json_file(directory))
            pipeline.image_processor = Glm4vImageProcessor.from_pretrained(directory)
            pipeline.video_processor = Glm4vVideoProcessor.from_pretrained(directory)
        load_tensors(pipeline.visual, read_visual_tensors(directory), dtype)
        return pipeline.to(device)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write configuration, processors and tower so that `from_pretrained` reads them back."""
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        for file, values in {
            "config.json": {"vision_config": self.config.to_dict()},
            IMAGE_FILE: image_file(self.image_processor.to_dict()),
            VIDEO_FILE: video_file(self.video_processor.to_dict()),
        }.items():
            (target / file).write_text(json.dumps(values, indent=2) + "\n")
        save_visual_tensors(self.visual, target)

    @property
    def device(self) -> torch.device:
        return self.visual.downsample.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.downsample.weight.dtype

    def forward(
        self,
        images: Any = None,
        videos: Any = None,
        video_metadata: Any = None,
    ) -> dict[str, dict[str, Any]]:
        """Embed images, videos or both: `{"image": ..., "video": ...}` with what the two extract methods return.

        Raises:
            ValueError: neither images nor videos were given.
        """
        if images is None and videos is None:
            raise ValueError("pass images, videos or both")
        outputs = {}
        if images is not None:
            outputs["image"] = self.extract_image_embeddings(images)
        if videos is not None:
            outputs["video"] = self.extract_video_embeddings(videos, video_metadata)
        return outputs

    @overload
    def extract_image_embeddings(self, images: Any, return_dict: Literal[True] = True) -> dict[str, Any]: ...
    @overload
    def extract_image_embeddings(self, images: Any, return_dict: Literal[False]) -> Tensor: ...
    @torch.no_grad()
    def extract_image_embeddings(self, images: Any, return_dict: bool = True) -> dict[str, Any] | Tensor:
        """Embed one image or a list of images of any sizes.

        Args:
            images: PIL images, arrays, tensors or paths.
            return_dict: False returns `embeddings` alone.

        Returns:
            `embeddings` `(sum of tokens, embedding_dim)` in input order, `image_grid_thw` int64 `(images, 3)`,
            `num_patches` (four to a token) and `embedding_dim`.

        Raises:
            ValueError: an image is none of these, or its sides are more than 200 to 1.
        """
        inputs = self.image_processor(images=images, return_tensors="pt")
        grid_thw = inputs["image_grid_thw"]
        embeddings = self._encode(inputs["pixel_values"], grid_thw)
        return self._as_dict(embeddings, "image_grid_thw", grid_thw) if return_dict else embeddings

    @overload
    def extract_video_embeddings(
        self, videos: Any, video_metadata: Any = None, return_dict: Literal[True] = True
    ) -> dict[str, Any]: ...
    @overload
    def extract_video_embeddings(self, videos: Any, video_metadata: Any, return_dict: Literal[False]) -> Tensor: ...
    @torch.no_grad()
    def extract_video_embeddings(
        self, videos: Any, video_metadata: Any = None, return_dict: bool = True
    ) -> dict[str, Any] | Tensor:
        """Embed one video or a list of videos of any sizes and lengths.

        Args:
            videos: tensors or arrays `(frames, 3, height, width)` or channels last, lists of frames, or paths.
            video_metadata: a mapping with `fps`, `total_num_frames` and `duration` (seconds) for each video that is
                not a path; a path brings its own.
            return_dict: False returns `embeddings` alone.

        Returns:
            As for images, with `video_grid_thw` and `timestamps`: for each video a list of float seconds, one for each
            temporal patch.

        Raises:
            ValueError: a video is none of these, or its metadata is missing.
        """
        inputs = self.video_processor(videos=videos, video_metadata=video_metadata, return_tensors="pt")
        grid_thw = inputs["video_grid_thw"]
        embeddings = self._encode(inputs["pixel_values_videos"], grid_thw)
        if not return_dict:
            return embeddings
        return {**self._as_dict(embeddings, "video_grid_thw", grid_thw), "timestamps": inputs["timestamps"]}

    def get_image_features(self, pixel_values: Tensor, image_grid_thw: Tensor) -> tuple[Tensor, ...]:
        """Encode patches `(sum(h*w), patch_dim)` of images into one `(tokens, embedding_dim)` tensor an image."""
        return self._encode(pixel_values, image_grid_thw).split(self._tokens_per_item(image_grid_thw))

    def get_video_features(self, pixel_values_videos: Tensor, video_grid_thw: Tensor) -> tuple[Tensor, ...]:
        """Encode patches `(sum(t*h*w), patch_dim)` of videos into one `(tokens, embedding_dim)` tensor a video."""
        return self.get_image_features(pixel_values_videos, video_grid_thw)

    def count_tokens(self, width: int, height: int, frames: int | None = None, fps: float | None = None) -> int:
        """Tokens that an image, or a clip of `frames` frames at `fps`, will have; nothing is decoded.

        Raises:
            ValueError: `frames` without `fps`, or sides that the processor refuses.
        """
        if frames is None:
            return self.image_processor.count_image_tokens(width, height)
        if fps is None:
            raise ValueError("a video's tokens depend on its frame rate: pass fps as well as frames")
        return self.video_processor.count_video_tokens(width, height, frames, fps)

    @staticmethod
    def format_for_language_model(
        features: Sequence[Tensor], padding_side: Literal["left", "right"] = "right"
    ) -> dict[str, Tensor]:
        """Pad each item's tokens to one batch.

        Args:
            features: `(tokens, embedding_dim)` of each item, as `get_image_features` returns them.

        Returns:
            `inputs_embeds` `(items, longest, embedding_dim)`, zero where padded, and `attention_mask` int64
            `(items, longest)`, 1 at tokens.

        Raises:
            ValueError: there is no item.
        """
        if not features:
            raise ValueError("nothing to pad: pass the tokens of at least one item")
        masks = [torch.ones(len(item), dtype=torch.int64, device=item.device) for item in features]
        return {
            "inputs_embeds": pad_sequence(list(features), batch_first=True, padding_side=padding_side),
            "attention_mask": pad_sequence(masks, batch_first=True, padding_side=padding_side),
        }

    def _encode(self, pixel_values: Tensor, grid_thw: Tensor) -> Tensor:
        tokens: Tensor = self.visual(pixel_values.to(self.device), grid_thw)
        return tokens

    def _tokens_per_item(self, grid_thw: Tensor) -> list[int]:
        tokens: list[int] = (grid_thw.prod(-1) // self.config.patches_per_token).tolist()
        return tokens

    def _as_dict(self, embeddings: Tensor, grid_name: str, grid_thw: Tensor) -> dict[str, Any]:
        return {
            "embeddings": embeddings,
            grid_name: grid_thw,
            "num_patches": int(grid_thw.prod(-1).sum()),
            "embedding_dim": embeddings.shape[-1],
        }


@contextmanager
def _named_errors(model: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{model} cannot be read: {error}") from error


def default_processors(config: Glm4vVisionConfig) -> tuple[Glm4vImageProcessor, Glm4vVideoProcessor]:
    """The processors of a tower without a checkpoint's files, as its model's are by default."""
    geometry = {
        "patch_size": config.patch_size,
        "temporal_patch_size": config.temporal_patch_size,
        "merge_size": config.spatial_merge_size,
    }
    image, video = default_settings(config.model_type, geometry)
    return Glm4vImageProcessor(**image), Glm4vVideoProcessor(**video)


def load_pipeline(
    name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> GLM4VEmbeddingPipeline:
    """A pipeline by directory, by hub id, or with random weights by a name in `RANDOM_CONFIGS`.

    Raises:
        CheckpointError: there is no such model.
    """
    if name in RANDOM_CONFIGS:
        return GLM4VEmbeddingPipeline(RANDOM_CONFIGS[name]).to(device=device, dtype=dtype)
    return GLM4VEmbeddingPipeline.from_pretrained(name, device=device, dtype=dtype)
