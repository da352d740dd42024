from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from glm4v_core.image_reading import read_image
from glm4v_core.media_errors import CorruptMedia, EmptyMedia, TooManyPixels, UnsupportedMedia
from glm4v_core.processing import Glm4vImageProcessor

RED, BLUE = (255, 0, 0), (0, 0, 255)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def held_sideways(orientation: int) -> bytes:
    """A photo, red above blue when upright, as a camera held that way stores it."""
    upright = Image.new("RGB", (80, 40), RED)
    upright.paste(BLUE, (0, 20, 80, 40))
    turns = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright if turns[orientation] is None else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, "JPEG", exif=exif, quality=95)


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_every_usual_format_is_read(kind: str) -> None:
    image = read_image(BytesIO(encoded(noise(40, 30), kind)))
    assert image.size == (40, 30)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_is_turned_upright(orientation: int) -> None:
    image = read_image(BytesIO(held_sideways(orientation)))
    assert image.size == (80, 40)
    assert np.allclose(image.getpixel((40, 5)), RED, atol=8)
    assert np.allclose(image.getpixel((40, 35)), BLUE, atol=8)


def test_a_path_given_to_the_processor_is_read_upright(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(held_sideways(6))
    processor = Glm4vImageProcessor()
    upright = processor(str(path))
    assert torch.equal(upright.pixel_values, processor(read_image(path)).pixel_values)
    as_it_lies = processor(Image.open(path))
    assert as_it_lies.image_grid_thw.tolist() != upright.image_grid_thw.tolist()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), RED), Image.new("RGB", (20, 20), BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert np.allclose(read_image(BytesIO(data)).convert("RGB").getpixel((10, 10)), RED, atol=8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grayscale_of_16_bits_is_scaled_and_not_clipped(kind: str) -> None:
    levels = np.array([[0, 128, 257, 32768, 65407, 65535]], dtype=np.uint16)
    image = read_image(BytesIO(encoded(Image.fromarray(levels), kind)))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 0, 1, 128, 255, 255]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_white_are_refused(mode: str) -> None:
    with pytest.raises(UnsupportedMedia, match="no known white"):
        read_image(BytesIO(encoded(Image.new(mode, (10, 10)), "TIFF")))


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_an_image_cut_short_is_an_error_and_not_half_gray(kind: str, share: float) -> None:
    data = encoded(noise(200, 150), kind)
    with pytest.raises((CorruptMedia, UnsupportedMedia)) as caught:
        read_image(BytesIO(data[: int(len(data) * share)]))
    assert kind == "AVIF" or caught.type is CorruptMedia
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_damaged_png_is_an_error() -> None:
    data = bytearray(encoded(noise(200, 150), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(CorruptMedia):
        read_image(BytesIO(data))


def test_a_header_alone_is_corrupt_and_not_unsupported() -> None:
    with pytest.raises(CorruptMedia, match="signature"):
        read_image(BytesIO(b"\xff\xd8\xff\xe0"))


def test_text_named_as_a_photo_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("buy milk")
    with pytest.raises(UnsupportedMedia, match="not an image"):
        read_image(path)


def test_heic_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnsupportedMedia, match="convert it to JPEG"):
        read_image(BytesIO(b"\x00\x00\x00\x18ftypheic" + bytes(100)))


def test_postscript_is_not_run() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(UnsupportedMedia):
        read_image(BytesIO(postscript))


def test_an_empty_file_has_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(EmptyMedia, match="0 bytes"):
        read_image(path)


def test_pixels_are_counted_before_they_are_decoded() -> None:
    data = encoded(noise(200, 150), "PNG")
    # The pixels are cut off: had they been decoded, the error would be another.
    with pytest.raises(TooManyPixels, match="200x150 pixels, more than 29999"):
        read_image(BytesIO(data[:300]), max_pixels=29_999)


def test_a_decompression_bomb_is_refused() -> None:
    data = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    data[18:26] = (30_000).to_bytes(4, "little") * 2
    with pytest.raises(TooManyPixels):
        read_image(BytesIO(data), max_pixels=10**12)


@pytest.mark.parametrize("error", [FileNotFoundError, IsADirectoryError])
def test_a_file_that_cannot_be_opened_is_no_damaged_image(tmp_path: Path, error: type[OSError]) -> None:
    with pytest.raises(error):
        read_image(tmp_path if error is IsADirectoryError else tmp_path / "missing.jpg")


def test_a_file_object_is_left_open() -> None:
    file = BytesIO(encoded(noise(20, 20), "PNG"))
    read_image(file)
    assert not file.closed


def test_real_photos_are_read(media_dir: Path) -> None:
    sizes = {path.name: read_image(path).size for path in media_dir.iterdir() if path.suffix in (".png", ".jpg")}
    assert sizes == {
        "astronaut.png": (512, 512),
        "chelsea.png": (451, 300),
        "coffee.png": (600, 400),
        "hubble_deep_field.jpg": (1000, 872),
        "rocket.jpg": (640, 427),
    }
