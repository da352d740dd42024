from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from glm4v_client.states import MediaKind
from worker.pipeline import kind_of


@pytest.mark.parametrize("name", ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_an_image_of_every_format_is_told_by_its_first_bytes(name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, name)
    assert kind_of(file.getvalue()[:32]) is MediaKind.IMAGE


@pytest.mark.parametrize("head", [b"", b"RIFF1234AVI LIST", b"\x1aE\xdf\xa3", b"G@\x11\x10", b"just a text, no media"])
def test_what_is_no_image_may_be_a_video(head: bytes) -> None:
    assert kind_of(head) is MediaKind.VIDEO


def test_the_real_files_are_what_they_are(media_dir: Path) -> None:
    kinds = {path.name: kind_of(path.read_bytes()[:32]) for path in media_dir.iterdir() if path.suffix != ".md"}
    assert {name for name, kind in kinds.items() if kind is MediaKind.VIDEO} == {
        "cockatoo.mp4",
        "nasa_13013.mp4",
        "realshort.mp4",
    }
