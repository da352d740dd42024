"""The settings that images and clips share, and the arithmetic that follows from them alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from glm4v_core.canvas import FITS, Canvas, Fit, fit_canvas
from glm4v_core.patches import normalize_patches

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3

ReturnTensors = Literal["pt", "np"] | None


class Features(dict[str, Any]):
    """A processor's result: a dict whose keys also read as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} among {', '.join(self)}") from None


@dataclass(frozen=True, kw_only=True)
class ProcessorSettings:
    """How pixels become patches, named as in a checkpoint's files.

    Raises:
        ValueError: a setting that cannot work; the message names it.
        TypeError: a setting that does not exist; the message names it.
    """

    #: `longest_edge` and `shortest_edge` are no edges but the most and the fewest pixels of all frames together.
    size: Mapping[str, int]
    #: How a frame comes to whole cells: see `glm4v_core.canvas`.
    fit: Fit = "stretch"
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    do_convert_rgb: bool = True
    image_mean: Sequence[float] | float = _CLIP_MEAN
    image_std: Sequence[float] | float = _CLIP_STD
    rescale_factor: float = 1 / 255
    #: Pillow's number of a filter. GLM-V models know one: 3, bicubic.
    resample: int = _BICUBIC
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    #: Bounds on the pixels of one frame after resizing; they tighten the budget of `size`, never widen it.
    min_pixels: int | None = None
    max_pixels: int | None = None

    #: Settings of a single run rather than of a checkpoint: never taken from its files.
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"min_pixels", "max_pixels"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_mean", _per_channel(self.image_mean))
        object.__setattr__(self, "image_std", _per_channel(self.image_std))
        for name in ("patch_size", "merge_size", "temporal_patch_size", "rescale_factor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.fit not in FITS:
            raise ValueError(f"unknown fit {self.fit!r}: choose one of {', '.join(FITS)}")
        if self.resample != _BICUBIC:
            raise ValueError(f"resample {self.resample} is not supported: GLM-V models need {_BICUBIC}, bicubic")
        if not all(_per_channel(self.image_std)):
            raise ValueError(f"image_std must not hold a zero, got {self.image_std}")
        _check_size(self.size)
        self._check_options()

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as JSON knows it; the class takes them back as keyword arguments."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def cell(self) -> int:
        """Edge in pixels of the square that becomes one token."""
        return self.patch_size * self.merge_size

    def _overridden(self, settings: Mapping[str, Any]) -> Self:
        return replace(self, **settings) if settings else self

    def _check_options(self) -> None:
        for name in ("min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < self.cell**2:
                raise ValueError(
                    f"{name} {value} is less than one token: {self.cell}x{self.cell} = {self.cell**2} pixels"
                )
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}")

    def _canvas(self, num_frames: int, height: int, width: int) -> Canvas:
        if not self.do_resize:
            if height % self.cell or width % self.cell:
                raise ValueError(
                    f"{width}x{height} does not divide into cells of {self.cell}x{self.cell} pixels:"
                    " resize it first, or leave do_resize on"
                )
            return Canvas(height, width, height, width)
        fewest, most = self._pixel_budget(num_frames)
        return fit_canvas(
            self.fit,
            num_frames,
            height,
            width,
            temporal_factor=self.temporal_patch_size,
            factor=self.cell,
            min_pixels=fewest,
            max_pixels=most,
        )

    def _pixel_budget(self, num_frames: int) -> tuple[int, int]:
        fewest, most = self.size["shortest_edge"], self.size["longest_edge"]
        if self.max_pixels is not None:
            most = min(most, self.max_pixels * num_frames)
        if self.min_pixels is not None:
            fewest = self.min_pixels * num_frames
        return min(fewest, most), most

    def _count_tokens(self, grid_thw: tuple[int, int, int]) -> int:
        t, h, w = grid_thw
        return t * h * w // self.merge_size**2

    def _normalized(self, data: Tensor, *, frames_per_patch: int) -> Tensor:
        channels = data.shape[1] // (frames_per_patch * self.patch_size**2)
        mean, std = _per_channel(self.image_mean), _per_channel(self.image_std)
        if self.do_normalize and len(mean) != channels:
            raise ValueError(
                f"image_mean has {len(mean)} channels and the pixels have {channels}: leave do_convert_rgb on"
            )
        return normalize_patches(
            data,
            image_mean=mean if self.do_normalize else None,
            image_std=std if self.do_normalize else None,
            rescale_factor=self.rescale_factor if self.do_rescale else None,
            temporal_patch_size=self.temporal_patch_size,
            channels=channels,
            patch_size=self.patch_size,
        )

    def _warn_of_small_floats(self, pixels: Tensor) -> None:
        if not (self.do_rescale and pixels.is_floating_point() and pixels.numel()):
            return
        if pixels.min() >= 0 and pixels.max() <= 1:
            warnings.warn(
                "float pixels within 0..1 are rescaled by 1/255 again, as Hugging Face's processors do:"
                " pass uint8 pixels, or do_rescale=False",
                stacklevel=4,
            )


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first dimension, without the copy that one tensor alone does not need."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def as_tensors(features: dict[str, Any], return_tensors: ReturnTensors) -> Features:
    """Return torch tensors for None and "pt", numpy arrays for "np".

    Raises:
        ValueError: another kind is asked for.
    """
    if return_tensors not in (None, "pt", "np"):
        raise ValueError(f"return_tensors {return_tensors!r} is not one of None, 'pt', 'np'")
    if return_tensors == "np":
        features = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in features.items()}
    return Features(features)


def _per_channel(value: Sequence[float] | float) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, (int, float)) else tuple(value)


def _check_size(size: Mapping[str, int]) -> None:
    if not (size.get("shortest_edge") and size.get("longest_edge")):
        raise ValueError(f"size needs shortest_edge and longest_edge, both numbers of pixels, got {dict(size)}")
    if size["shortest_edge"] > size["longest_edge"]:
        raise ValueError(
            f"size's shortest_edge {size['shortest_edge']} is more than longest_edge {size['longest_edge']}"
        )
