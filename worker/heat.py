"""Numbers as colours: maps of the token grid, strips over time, and the legends that say which colour is how much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FloatArray = npt.NDArray[np.floating]

#: From the least to the most, each brighter than the one before, so that it also reads in grey.
_RAMP = np.array([(17, 12, 56), (84, 24, 112), (170, 46, 100), (232, 106, 56), (250, 180, 60), (252, 246, 190)], float)
_FONT_SIZE = 13
_BAR_HEIGHT = 12
INK, PAPER = (30, 30, 30), (255, 255, 255)


def heat_colours(values: FloatArray, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Colours of any array of numbers, one more dimension of 3; what is not between `low` and `high` gets theirs."""
    shares = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    places = shares * (len(_RAMP) - 1)
    channels = [np.interp(places, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def draw_legend(width: int, low: float, high: float, what: str) -> Image.Image:
    """The ramp with its two ends written below it."""
    sheet = Image.new("RGB", (width, _BAR_HEIGHT + line_height()), PAPER)
    ramp = heat_colours(np.linspace(0, 1, width, dtype=np.float32)[None], 0, 1)
    sheet.paste(Image.fromarray(ramp).resize((width, _BAR_HEIGHT)), (0, 0))
    draw = ImageDraw.Draw(sheet)
    draw.text((0, _BAR_HEIGHT), f"{low:.3g}", INK, font())
    draw.text((width // 2, _BAR_HEIGHT), what, INK, font(), anchor="ma")
    draw.text((width, _BAR_HEIGHT), f"{high:.3g}", INK, font(), anchor="ra")
    return sheet


def draw_strip(values: FloatArray, width: int, height: int, low: float, high: float) -> Image.Image:
    """One column for each value, from left to right: the more, the brighter and the taller."""
    colours = heat_colours(values, low, high)
    sheet = Image.new("RGB", (width, height), (236, 236, 236))
    draw = ImageDraw.Draw(sheet)
    for index, (value, colour) in enumerate(zip(values, colours, strict=True)):
        left, right = (
            index * width // len(values),
            max(index * width // len(values), (index + 1) * width // len(values) - 1),
        )
        share = (float(np.clip(value, low, high)) - low) / (high - low) if high > low else 0.5
        top = round((1 - share) * (height - 3))
        draw.rectangle((left, top, right, height), fill=tuple(int(part) for part in colour))
    return sheet


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def line_height() -> int:
    return _FONT_SIZE + 5
