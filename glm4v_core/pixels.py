"""What a caller may hand over as an image or a clip, brought to one form: tensors of RGB, resized."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvF

from glm4v_core.canvas import Canvas
from glm4v_core.image_reading import read_image

Array: TypeAlias = npt.NDArray[Any]
ImageInput: TypeAlias = Image.Image | Array | Tensor | str | Path
VideoInput: TypeAlias = Array | Tensor | Sequence[Image.Image] | Sequence[Array] | Sequence[Tensor] | str | Path

_WHITE = (255, 255, 255, 255)


def list_images(images: Any) -> list[ImageInput]:
    """Take one image, a batch (4-D), or a list of either, nested or not, as a flat list.

    Raises:
        ValueError: there is no image, or something else among them.
    """
    if isinstance(images, (Image.Image, str, os.PathLike)):
        return [images]  # type: ignore[list-item]
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim not in (2, 3, 4):
            raise ValueError(f"an image has 2 or 3 dimensions and a batch 4, got shape {tuple(images.shape)}")
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, (list, tuple)) and images:
        return [image for item in images for image in list_images(item)]
    raise ValueError(f"expected an image or a list of images, got {_described(images)}")


def list_videos(videos: Any) -> list[VideoInput]:
    """Take one clip, a batch (5-D), or a list of clips. A list of frames is one clip, and so is a single frame.

    Raises:
        ValueError: there is no clip, or something else among them.
    """
    if isinstance(videos, (str, os.PathLike)):
        return [videos]  # type: ignore[list-item]
    if _is_frame(videos):
        return [[videos]]
    if isinstance(videos, (np.ndarray, Tensor)):
        if videos.ndim not in (4, 5):
            raise ValueError(f"a clip has 4 dimensions and a batch 5, got shape {tuple(videos.shape)}")
        return list(videos) if videos.ndim == 5 else [videos]
    if isinstance(videos, (list, tuple)) and videos:
        if all(_is_frame(frame) for frame in videos):
            return [videos]
        return [video for item in videos for video in list_videos(item)]
    raise ValueError(f"expected a clip or a list of clips, got {_described(videos)}")


def image_pixels(image: ImageInput, *, convert_rgb: bool) -> Tensor:
    """Return an image as (C, H, W) in its own dtype; with `convert_rgb` C is 3 and transparency becomes white.

    A PIL image is taken as it lies: its EXIF orientation is the reader's business (`read_image` applies it).

    Raises:
        ValueError: the channels cannot be told from the shape.
        MediaError: the image is a path, and the file cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        image = read_image(image)
    if isinstance(image, Image.Image):
        return _channels_first(torch.from_numpy(np.array(rgb_image(image) if convert_rgb else image)), last=True)
    pixels = _as_tensor(image)
    if pixels.ndim == 3:
        pixels = _channels_first(pixels, last=_channels_are_last(pixels.shape, channels=(1, 3, 4)))
    else:
        pixels = pixels.unsqueeze(0)
    return _rgb_pixels(pixels) if convert_rgb else pixels


def clip_pixels(clip: Array | Tensor | Sequence[Any], *, convert_rgb: bool) -> Tensor:
    """Return a clip as (T, C, H, W) in its own dtype, C being 3 with `convert_rgb`.

    Raises:
        ValueError: the frames differ in size, or have other than 1 or 3 channels.
    """
    frames = _as_tensor(clip) if isinstance(clip, (np.ndarray, Tensor)) else _stack([_frame(f) for f in clip])
    if _channels_are_last(frames.shape[1:], channels=(1, 3)):
        frames = frames.permute(0, 3, 1, 2)
    return frames.expand(-1, 3, -1, -1) if convert_rgb else frames


def resize_frame(frame: Tensor, height: int, width: int) -> Tensor:
    """Resize (C, H, W) like Hugging Face's torchvision backend: bicubic, antialiased, in its own dtype."""
    if frame.dtype == torch.uint8 and frame.shape[0] == 3 and frame.device.type == "cpu":
        # torch resizes interleaved bytes to the same values in a ninth of the time that planes take.
        frame = frame.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    else:
        frame = frame.contiguous()
    resized: Tensor = tvF.resize(frame, [height, width], interpolation=tvF.InterpolationMode.BICUBIC, antialias=True)
    return resized


def lay_on_canvas(picture: Tensor, canvas: Canvas) -> Tensor:
    """Put a picture (C, H, W) of the canvas's picture size at its top left, black beside and below it."""
    beside, below = canvas.width - canvas.picture_width, canvas.height - canvas.picture_height
    return F.pad(picture, (0, beside, 0, below)) if beside or below else picture


def rgb_image(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image.convert("RGBA")).convert("RGB")


def _rgb_pixels(pixels: Tensor) -> Tensor:
    if pixels.shape[0] == 1:
        return pixels.expand(3, -1, -1)
    if pixels.shape[0] == 3:
        return pixels
    if pixels.is_floating_point() and (pixels.min() < 0 or pixels.max() > 1):
        raise ValueError(
            "an RGBA image of floats must lie in 0..1 to be laid on white,"
            f" got {pixels.min().item():g}..{pixels.max().item():g}"
        )
    scaled = tvF.to_dtype(pixels, torch.float32, scale=True)
    on_white = scaled[:3] * scaled[3:] + (1 - scaled[3:])
    rgb: Tensor = tvF.to_dtype(on_white, pixels.dtype, scale=True)
    return rgb


def _channels_first(pixels: Tensor, *, last: bool) -> Tensor:
    if pixels.ndim == 2:
        return pixels.unsqueeze(0)
    return pixels.permute(2, 0, 1) if last else pixels


def _channels_are_last(shape: Sequence[int], *, channels: tuple[int, ...]) -> bool:
    # Where both ends could be the channels, Hugging Face's processors take the first.
    if shape[0] in channels:
        return False
    if shape[-1] in channels:
        return True
    raise ValueError(
        f"cannot tell the channels in shape {tuple(shape)}: expected {' or '.join(map(str, channels))} first or last"
    )


def _frame(frame: Image.Image | Array | Tensor) -> Tensor:
    if isinstance(frame, Image.Image):
        if frame.mode != "RGB":
            raise ValueError(f"frames must be RGB images, got mode {frame.mode!r}: use frame.convert('RGB')")
        return torch.from_numpy(np.array(frame))
    return _as_tensor(frame)


def _stack(frames: list[Tensor]) -> Tensor:
    shapes = sorted({tuple(frame.shape) for frame in frames})
    if len(shapes) > 1:
        raise ValueError(f"the frames of one clip must have one size, got {shapes[0]} and {shapes[-1]}")
    return torch.stack(frames)


def _as_tensor(pixels: Array | Tensor) -> Tensor:
    # Arrays with negative strides, as flips give, have no tensor form.
    return pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.ascontiguousarray(pixels))


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, Tensor)) and item.ndim == 3)


def _described(item: Any) -> str:
    return f"an empty {type(item).__name__}" if isinstance(item, (list, tuple)) else type(item).__name__
