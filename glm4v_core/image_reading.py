"""Image files to upright pixels."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from glm4v_core.media_errors import CorruptMedia, EmptyMedia, MediaError, TooManyPixels, UnsupportedMedia

#: Pillow's own bound, above which it takes a file for a decompression bomb.
MAX_IMAGE_PIXELS = 89_478_485

# Named one by one, because Pillow opens others too and hands some of them (EPS) to programs of their own.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"\x00\x00\x00\x0cjP")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
# What Pillow's decoders have been seen to raise on damaged files; OSError is the usual one.
_DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, struct.error, zlib.error)


def read_image(source: str | Path | BinaryIO, *, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decode an image file whole: upright by its EXIF orientation, the first frame of an animation.

    The orientation is applied because a camera writes what its sensor saw and notes how it was held; transformers'
    loaders apply it too. Grayscale of 16 bits is scaled to 8: Pillow's own conversion clips it, and transformers'
    tensor loader passes on numbers up to 65535. Every other mode is left for the processor to make RGB of.

    Args:
        source: a path, or a binary file, which is read from where it stands and left open.
        max_pixels: width times height allowed, checked before anything is decoded; Pillow's bound is the most.

    Raises:
        EmptyMedia: there are no bytes.
        UnsupportedMedia: this is no image, or one in a format or of a pixel type that is not read.
        TooManyPixels: the image is larger than `max_pixels`.
        CorruptMedia: the image is damaged or cut short.
        OSError: the file itself cannot be opened or read.
    """
    # Read first and decoded afterwards, so that an error of the disk is not taken for damage to the image.
    data = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
    with decoding_errors():
        image = open_image(data, max_pixels=max_pixels)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    return _eight_bits(image)


def open_image(data: bytes, *, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Identify an image and check its size; its pixels, and its further frames, are not decoded yet.

    Raises:
        EmptyMedia, UnsupportedMedia, TooManyPixels, CorruptMedia: as `read_image`.
    """
    if not data:
        raise EmptyMedia("the file is empty: 0 bytes")
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    if image.width * image.height > max_pixels:
        raise TooManyPixels(f"the image has {image.width}x{image.height} pixels, more than {max_pixels} in all")
    return image


def looks_like_image(head: bytes) -> bool:
    """Tell by the first 16 bytes whether a file means to be an image, animated or not, rather than a video."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in _HEIF_BRANDS + _AVIF_BRANDS
    return head.startswith(_SIGNATURES)


@contextmanager
def decoding_errors() -> Iterator[None]:
    """Map what Pillow raises on damaged images, which is no one class, to `CorruptMedia`."""
    try:
        yield
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(str(error)) from error
    except _DAMAGE as error:
        raise CorruptMedia(f"the image is damaged or cut short: {error}") from error


def _unidentified(data: bytes) -> UnsupportedMedia | CorruptMedia:
    if data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return CorruptMedia(
            "the image is damaged or cut short: it has the signature of its format but no readable header"
        )
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return UnsupportedMedia("HEIC images are not read: convert it to JPEG or PNG first")
    return UnsupportedMedia(f"this is not an image in a format that is read: {', '.join(_FORMATS)}")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep grayscale to 8 bits, white to white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnsupportedMedia(f"pixels of mode {image.mode!r} have no known white: convert the image to 8 bits first")
    return image
