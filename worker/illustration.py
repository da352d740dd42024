"""An item's picture: its media beside its tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from glm4v_client.artefact import Artefact
from glm4v_client.restoring import to_numpy
from glm4v_client.states import MediaKind
from worker.picture import draw_tokens

# Frames are shown a few centimetres high.
_FRAME_EDGE = 360


def illustrate(media: Path, artefact: Artefact) -> Image.Image:
    """Draw an artefact beside the media it was made from: one row for each temporal patch.

    Raises:
        MediaError: the media cannot be read any more.
    """
    header = artefact.header
    frames = [_image(media)] if header.kind is MediaKind.IMAGE else _frames(media, header.frame_indices or ())
    return draw_tokens(to_numpy(artefact).astype(np.float32), header.grid_thw, frames[: header.grid_thw[0]])


def _image(media: Path) -> Image.Image:
    from glm4v_core.image_reading import read_image

    return read_image(media)


def _frames(media: Path, frame_indices: tuple[int, ...]) -> list[Image.Image]:
    """The first frame of every temporal patch."""
    # Brings torch along, which a program that draws nothing should not wait for.
    from glm4v_core.video_reading import open_video

    with open_video(media) as source:
        scale = min(1.0, _FRAME_EDGE / max(source.height, source.width))
        size = (max(1, round(source.height * scale)), max(1, round(source.width * scale)))
        return [
            Image.fromarray(frame.permute(1, 2, 0).numpy())
            for frame in source.frames(list(frame_indices[::2]), size=size)
        ]
