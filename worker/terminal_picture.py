"""A small picture of tokens in characters, for a glance in the terminal."""

from __future__ import annotations

import numpy as np
from PIL import Image
from rich.text import Text

from glm4v_client.artefact import Artefact
from worker.finite_tokens import finite_tokens
from worker.picture import token_maps

_COLUMNS = 64
_ROWS = 40
_UPPER_HALF = "\N{UPPER HALF BLOCK}"


def terminal_picture(artefact: Artefact) -> Text:
    """The principal components of an image, or of a video's middle: each character is two pixels, one over the other.

    Raises:
        ValueError: the tokens do not fill the grid.
    """
    maps = token_maps(finite_tokens(artefact)[0], artefact.header.grid_thw)
    pixels = np.asarray(_fitting(Image.fromarray(maps[len(maps) // 2])))
    text = Text()
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append(_UPPER_HALF, style=f"{_hex(above)} on {_hex(below)}")
        text.append("\n")
    return text


def _fitting(picture: Image.Image) -> Image.Image:
    scale = min(_COLUMNS / picture.width, 2 * _ROWS / picture.height)
    height = max(1, round(picture.height * scale / 2)) * 2
    return picture.resize((max(1, round(picture.width * scale)), height), Image.Resampling.NEAREST)


def _hex(colour: np.ndarray) -> str:
    red, green, blue = (int(part) for part in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
