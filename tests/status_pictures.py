"""Draws the docs' pictures of the status page: `python -m tests.status_pictures MEDIA_FOLDER`, with Chromium installed.

A real `glm4v serve` embeds a few files of the folder with random weights; what a browser then shows is kept.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from PIL import Image

from glm4v_client import EmbeddingClient
from glm4v_client.options import EmbedOptions
from tests.browsers import chromium
from tests.glm4v_command import Glm4v, ServeProcess

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
#: The last of them is missing, to show what a failure looks like.
SOURCES = ("chelsea.png", "coffee.png", "astronaut.png", "cockatoo.mp4", "gone.jpg")
WIDTH = 960


def draw(media: Path) -> None:
    """Write docs/pictures/job.png and item.png."""
    PICTURES.mkdir(exist_ok=True)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        commands = Glm4v(folder, GLM4V_FILE_ROOTS=str(media))
        serve = held.enter_context(closing(ServeProcess(commands, "--out", "out", "--device", "cpu")))
        with EmbeddingClient(serve.url) as client:
            job = client.submit(
                [(media / name).as_uri() for name in SOURCES],
                labels={"set": "samples"},
                options=EmbedOptions(fps=1, max_frames=16, max_pixels=200_000),
            )
            job.wait(timeout=300)
            shown = {"job": f"/jobs/{job.id}", "item": f"/items/{next(iter(job.items())).id}"}
        with chromium() as browser:
            page = browser.new_page(base_url=serve.url, viewport={"width": WIDTH, "height": 760}, color_scheme="light")
            for name, path in shown.items():
                page.goto(path)
                save_small(page.screenshot(), PICTURES / f"{name}.png")


def save_small(png: bytes, path: Path) -> None:
    """With a palette: a third of the bytes, and the page has few colours."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]).absolute())
