"""What an artefact looks like by itself, without the media that it was made from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps

from glm4v_client.artefact import Artefact, ArtefactHeader
from glm4v_client.states import MediaKind
from worker.finite_tokens import finite_tokens
from worker.heat import INK, PAPER, FloatArray, draw_legend, draw_strip, font, heat_colours, line_height
from worker.picture import token_maps

Colours = npt.NDArray[np.uint8]

_MARGIN = 16
_MAP_EDGE = 480
_FRAME_EDGE = 190
_FRAMES_IN_ROW = 6
#: More are left out evenly: the strip below shows them all.
_MOST_FRAMES = 24
_STRIP_HEIGHT = 56
# Ramps span the middle of the values, so that a few outlying tokens do not darken the rest.
_SHOWN_PERCENTILES = (1.0, 99.0)


def draw_portrait(artefact: Artefact) -> Image.Image:
    """Draw the tokens' first three principal components as red, green and blue, and the tokens' lengths.

    Of a video, frame by frame, and below them how like each frame's tokens are to those before.

    Raises:
        ValueError: the tokens do not fill the grid.
    """
    header = artefact.header
    tokens, bad = finite_tokens(artefact)
    components = token_maps(tokens, header.grid_thw)
    norms = np.linalg.norm(tokens, axis=1).reshape(components.shape[:3])
    if header.kind is MediaKind.IMAGE:
        parts = [_image_maps(components, norms)]
    else:
        similarity = similarity_over_time(tokens.reshape(len(components), -1, header.dim))
        parts = [_video_maps(components, norms, header), _similarity(similarity, header)]
    return ImageOps.expand(_below(_title(header, bad), *parts), _MARGIN, PAPER)


def similarity_over_time(frames: FloatArray) -> FloatArray:
    """How like each frame is to the one before: the mean cosine of the tokens in the same places.

    Args:
        frames: `(t, tokens of a frame, dim)`.

    Returns:
        `(t - 1,)`, between -1 and 1; a token of zeros is like nothing.
    """
    lengths = np.linalg.norm(frames, axis=2, keepdims=True)
    directions = np.divide(frames, lengths, out=np.zeros_like(frames), where=lengths > 0)
    cosines: FloatArray = (directions[1:] * directions[:-1]).sum(axis=2).mean(axis=1)
    return cosines


def _image_maps(components: Colours, norms: FloatArray) -> Image.Image:
    size = _map_size(components, _MAP_EDGE)
    low, high = _span(norms)
    lengths = _enlarged(heat_colours(norms[0], low, high), size)
    return _beside(
        _below(_enlarged(components[0], size), _line("principal components", size[0])),
        _below(lengths, draw_legend(size[0], low, high, "token length")),
    )


def _video_maps(components: Colours, norms: FloatArray, header: ArtefactHeader) -> Image.Image:
    size = _map_size(components, _FRAME_EDGE)
    low, high = _span(norms)
    shown = _spread(len(components), _MOST_FRAMES)
    cells = [
        _below(
            _enlarged(components[index], size),
            _enlarged(heat_colours(norms[index], low, high), size),
            _line(_when(header, index), size[0]),
            gap=2,
        )
        for index in shown
    ]
    rows = [_beside(*cells[start : start + _FRAMES_IN_ROW]) for start in range(0, len(cells), _FRAMES_IN_ROW)]
    note = f"above: principal components, below: token length; {len(shown)} of {len(components)} temporal patches"
    width = max(row.width for row in rows)
    return _below(*rows, _line(note, width), draw_legend(min(width, _MAP_EDGE), low, high, "token length"))


def _similarity(similarity: FloatArray, header: ArtefactHeader) -> Image.Image:
    width = _FRAMES_IN_ROW * _FRAME_EDGE
    if not len(similarity):
        return _line("one temporal patch: nothing to compare over time", width)
    low, high = float(similarity.min()), float(similarity.max())
    note = f"likeness of each temporal patch to the one before (mean cosine), {_when(header, 1)} to {_when(header, -1)}"
    return _below(
        _line(note, width),
        draw_strip(similarity, width, _STRIP_HEIGHT, low, high),
        draw_legend(_MAP_EDGE, low, high, ""),
    )


def _title(header: ArtefactHeader, bad: int) -> Image.Image:
    t, h, w = header.grid_thw
    grid = f"{h // 2} x {w // 2} tokens" if header.kind is MediaKind.IMAGE else f"{t} x {h // 2} x {w // 2} tokens"
    title = _line(f"{header.kind}, {grid} of {header.dim} {header.dtype}, {header.model}", 2 * _MAP_EDGE)
    return _below(title, _line(f"{bad:,} tokens are not finite, and drawn as zeros", 0), gap=0) if bad else title


def _when(header: ArtefactHeader, index: int) -> str:
    return f"{header.timestamps[index]:.2f} s" if header.timestamps else f"patch {index}"


def _span(values: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(values, _SHOWN_PERCENTILES)
    return float(low), float(high)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the indices, evenly, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _map_size(maps: Colours, edge: int) -> tuple[int, int]:
    height, width = maps.shape[1:3]
    scale = edge / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _enlarged(colours: Colours, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def _line(text: str, width: int) -> Image.Image:
    needed = round(font().getlength(text)) + 1
    sheet = Image.new("RGB", (max(width, needed), line_height()), PAPER)
    ImageDraw.Draw(sheet).text((0, 0), text, INK, font())
    return sheet


def _below(*parts: Image.Image, gap: int = 8) -> Image.Image:
    height = sum(part.height + gap for part in parts) - gap
    sheet = Image.new("RGB", (max(part.width for part in parts), height), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height + gap
    return sheet


def _beside(*parts: Image.Image, gap: int = 8) -> Image.Image:
    width = sum(part.width + gap for part in parts) - gap
    sheet = Image.new("RGB", (width, max(part.height for part in parts)), PAPER)
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width + gap
    return sheet
