"""glm4v_core's vision tower as an encoder: bytes in, bytes out, the device's queue kept full."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from glm4v_client.artefact import SCALED_DTYPES
from glm4v_client.options import Dtype, StoredDtype
from glm4v_client.states import MediaKind
from glm4v_core.embedding_pipeline import (
    RANDOM_CONFIGS,
    GLM4VEmbeddingPipeline,
    RandomWeightsWarning,
    load_pipeline,
)
from glm4v_core.hub import find_checkpoint
from glm4v_core.patches import normalize_patches
from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor
from glm4v_core.quantization import QuantizedDtype, quantize_rows
from glm4v_core.weights import CheckpointError, weights_digest
from worker.encoding import EncodeRequest, OutOfDeviceMemory, Tokens
from worker.errors import InvalidOptions, InvalidSettings

log = logging.getLogger(__name__)


def load_encoder(
    model: str, *, device: str, dtype: Dtype, revision: str | None = None, download: bool = True
) -> TorchEncoder:
    """Load a model onto a device.

    Args:
        model: a directory, a hub id, or `random:tiny`.
        device: `auto` takes the GPU if there is one.
        download: fetch a hub's model that is not on this machine; else that is an error.

    Raises:
        InvalidSettings: there is no such model or no such device; the message says what to do.
    """
    where = _device(device)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RandomWeightsWarning)
            if not download:
                _check_on_this_machine(model, revision)
            pipeline = _load(model, revision, getattr(torch, dtype))
    except (CheckpointError, OSError) as error:
        raise InvalidSettings(f"the model {model!r} cannot be loaded: {error}") from error
    for warning in caught:
        log.warning("%s", warning.message)
    # Before the move: reading it back from a GPU would take longer.
    digest = weights_digest(pipeline.visual)
    return TorchEncoder(pipeline.to(where), weights_sha256=digest)


def _load(model: str, revision: str | None, dtype: torch.dtype) -> GLM4VEmbeddingPipeline:
    if model in RANDOM_CONFIGS:
        return load_pipeline(model, dtype=dtype)
    return GLM4VEmbeddingPipeline.from_pretrained(model, revision, dtype=dtype)


def _check_on_this_machine(model: str, revision: str | None) -> None:
    if model in RANDOM_CONFIGS or find_checkpoint(model, revision) is not None:
        return
    fetch = f"glm4v weights fetch {model}" + (f" --revision {revision}" if revision else "")
    raise InvalidSettings(
        f"the weights of {model} are not on this machine: run `{fetch}`, in a container with the worker's volume of"
        " weights; or set GLM4V_MODEL=random:tiny for a trial with random ones"
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSettings(f"the device {name!r} cannot be used, try auto or cpu: {error}") from error
    return device


class TorchEncoder:
    """Normalises patches on the device and runs the tower over all of them at once."""

    def __init__(self, pipeline: GLM4VEmbeddingPipeline, *, weights_sha256: str) -> None:
        self._pipeline = pipeline
        self._device = pipeline.device
        self.device = str(pipeline.device)
        self.dim = pipeline.config.out_hidden_size
        self.patches_per_token = pipeline.config.patches_per_token
        self.runs_ahead = self._device.type == "cuda"
        self.identity: Mapping[str, Any] = {
            "weights_sha256": weights_sha256,
            "computed_in": str(pipeline.dtype).removeprefix("torch."),
        }

    def processor_settings(self, kind: MediaKind, options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the image or the video processor with an item's options.

        Raises:
            InvalidOptions: this model cannot do what an option asks for.
        """
        bounds = {name: options.get(name) for name in ("min_pixels", "max_pixels")}
        try:
            if kind is MediaKind.IMAGE:
                return self._pipeline.image_processor.with_options(**bounds).to_dict()
            sampling = {name: options.get(name) for name in ("fps", "max_frames")}
            return self._pipeline.video_processor.with_options(**bounds, **sampling).to_dict()
        except ValueError as error:
            raise InvalidOptions(f"correct the options: {error}") from error

    @torch.inference_mode()
    def start(self, batch: Sequence[EncodeRequest]) -> TorchForward:
        """Queue a batch on the device: one copy there for each kind of media in it, one forward, one copy back.

        Raises:
            OutOfDeviceMemory: there is no room for it.
        """
        # Images, then videos: each kind is one tensor, and normalised as one.
        order = sorted(range(len(batch)), key=lambda index: batch[index].width)
        ordered = [batch[index] for index in order]
        with _memory_errors():
            pixel_values = torch.cat([self._pixel_values(list(group)) for group in _by_width(ordered)])
            grid_thw = torch.tensor([request.grid_thw for request in ordered])
            tokens = self._pipeline.visual(pixel_values, grid_thw)
            return TorchForward(tokens, ordered, order, patches_per_token=self.patches_per_token)

    def _pixel_values(self, requests: list[EncodeRequest]) -> Tensor:
        width = requests[0].width
        pieces = [torch.frombuffer(request.patches, dtype=torch.uint8).view(-1, width) for request in requests]
        rows = sum(len(piece) for piece in pieces)
        # From pinned memory the copy to the device does not wait for the forward before it.
        patches = torch.cat(pieces, out=torch.empty(rows, width, dtype=torch.uint8, pin_memory=self.runs_ahead))
        processor = self._processor(width)
        pixels = normalize_patches(
            patches.to(self._device, non_blocking=True),
            # The processor has made them one number a channel.
            image_mean=cast("Sequence[float]", processor.image_mean) if processor.do_normalize else None,
            image_std=cast("Sequence[float]", processor.image_std) if processor.do_normalize else None,
            rescale_factor=processor.rescale_factor if processor.do_rescale else None,
            temporal_patch_size=processor.temporal_patch_size,
            patch_size=processor.patch_size,
        )
        return pixels.to(self._pipeline.dtype)

    def _processor(self, width: int) -> Glm4vImageProcessor | Glm4vVideoProcessor:
        image = self._pipeline.image_processor
        return (
            image
            if width == self._pipeline.config.in_channels * image.patch_size**2
            else self._pipeline.video_processor
        )


class TorchForward:
    """A batch on the device, and its tokens on their way back."""

    def __init__(
        self, tokens: Tensor, requests: Sequence[EncodeRequest], order: Sequence[int], *, patches_per_token: int
    ) -> None:
        rows = [request.segments * request.segment_patches // patches_per_token for request in requests]
        on_device = [
            _as_stored(part, request.dtype) for part, request in zip(tokens.split(rows), requests, strict=True)
        ]
        self._host = [(_to_host(part), _to_host(scales)) for part, scales in on_device]
        self._dtypes = [request.dtype for request in requests]
        self._order = order
        self._done = None
        if tokens.is_cuda:
            self._done = torch.cuda.Event()
            self._done.record()

    def tokens(self) -> list[Tokens]:
        """Wait for the tokens of each request, in the order in which the requests were given.

        Raises:
            OutOfDeviceMemory: there was no room after all.
        """
        if self._done is not None:
            with _memory_errors():
                self._done.synchronize()
        given = [
            (place, _as_tokens(part, scales, dtype))
            for place, (part, scales), dtype in zip(self._order, self._host, self._dtypes, strict=True)
        ]
        return [tokens for _, tokens in sorted(given, key=lambda pair: pair[0])]


def _as_stored(part: Tensor, dtype: StoredDtype) -> tuple[Tensor, Tensor]:
    """Rows in the number format asked for, and their scales: none where it needs none."""
    if dtype in SCALED_DTYPES:
        rows, scales = quantize_rows(part, cast(QuantizedDtype, dtype))
        return rows.view(torch.uint8), scales
    return part.to(getattr(torch, dtype)), torch.empty(0)


def _to_host(part: Tensor) -> Tensor:
    if not part.is_cuda:
        return part.contiguous()
    host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
    return host.copy_(part, non_blocking=True)


def _as_tokens(part: Tensor, scales: Tensor, dtype: StoredDtype) -> Tokens:
    return Tokens(data=_bytes(part), shape=(part.shape[0], part.shape[1]), dtype=dtype, scales=_bytes(scales))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data


def _by_width(requests: Sequence[EncodeRequest]) -> Iterator[Iterator[EncodeRequest]]:
    for _, group in itertools.groupby(requests, key=lambda request: request.width):
        yield group


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(str(error)) from error
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own.
        if "DefaultCPUAllocator" in str(error):
            raise OutOfDeviceMemory(str(error)) from error
        raise
