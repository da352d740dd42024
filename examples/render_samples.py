"""Renders two photos and a clip to try the program on: a JPEG, a PNG and an H.264 file.

python examples/render_samples.py FOLDER
"""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]


def render_samples(folder: Path) -> list[Path]:
    """Write the samples that are not there yet and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = {"coast.jpg": write_coast, "fruit.png": write_fruit, "moonrise.mp4": write_moonrise}
    for name, write in samples.items():
        if not (folder / name).exists():
            write(folder / name)
    return [folder / name for name in samples]


def write_coast(path: Path) -> None:
    """A lighthouse over the sea at dusk, 960 x 640."""
    picture = vertical_gradient((960, 640), (38, 60, 120), (250, 170, 110))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((600, 260, 720, 380), fill=(255, 226, 150))
    picture.paste(vertical_gradient((960, 260), (70, 92, 140), (18, 40, 78)), (0, 380))
    for row in range(390, 640, 9):
        shift = row * 37 % 90
        draw.line([(x, row + 2 * math.sin(x / 23 + row)) for x in range(shift, 960, 12)], fill=(110, 132, 168), width=1)
    draw.polygon([(0, 640), (0, 400), (150, 372), (330, 450), (420, 640)], fill=(34, 44, 40))
    draw.polygon([(172, 400), (184, 180), (228, 180), (240, 400)], fill=(236, 232, 224))
    for top in (215, 275, 335):
        draw.rectangle((178, top, 234, top + 28), fill=(190, 52, 44))
    draw.rectangle((180, 148, 232, 180), fill=(250, 236, 150), outline=(40, 40, 40), width=3)
    draw.polygon([(174, 148), (206, 118), (238, 148)], fill=(60, 40, 40))
    with_grain(picture, seed=1).save(path, quality=92)


def write_fruit(path: Path) -> None:
    """Fruit on a checked cloth, 720 x 720."""
    picture = Image.new("RGB", (720, 720), (236, 230, 214))
    draw = ImageDraw.Draw(picture)
    for row in range(9):
        for column in range(9):
            if (row + column) % 2:
                draw.rectangle((column * 80, row * 80, column * 80 + 79, row * 80 + 79), fill=(150, 178, 190))
    fruits: list[tuple[int, int, int, Colour]] = [
        (250, 300, 130, (196, 40, 44)),
        (470, 270, 110, (240, 160, 40)),
        (380, 470, 140, (120, 170, 60)),
        (200, 520, 80, (110, 60, 130)),
    ]
    for x, y, radius, colour in fruits:
        picture = with_ball(picture, x, y, radius, colour)
    with_grain(picture, seed=2).save(path)


def write_moonrise(path: Path) -> None:
    """The moon crossing a valley: 4 seconds of 448 x 336 at 24 frames a second."""
    frames_per_second, frame_count = 24, 96
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second))
        stream.width, stream.height, stream.pix_fmt = 448, 336, "yuv420p"
        for number in range(frame_count):
            frame = av.VideoFrame.from_image(moonrise_frame(number / (frame_count - 1)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def moonrise_frame(progress: float) -> Image.Image:
    night = (16, 20, 48)
    horizon = tuple(round(a + (b - a) * progress) for a, b in zip((60, 50, 90), (150, 120, 130), strict=True))
    picture = vertical_gradient((448, 336), night, (horizon[0], horizon[1], horizon[2]))
    x, y = 40 + 370 * progress, 230 - 170 * math.sin(math.pi * progress)
    picture = with_ball(picture, round(x), round(y), 34, (240, 236, 214))
    draw = ImageDraw.Draw(picture)
    far = [(step, 250 + 26 * math.sin(step / 41)) for step in range(0, 449, 8)]
    near = [(step, 290 + 18 * math.sin(step / 29 + 2)) for step in range(0, 449, 8)]
    draw.polygon([(0, 336), *far, (448, 336)], fill=(30, 44, 58))
    draw.polygon([(0, 336), *near, (448, 336)], fill=(14, 26, 30))
    return picture


def vertical_gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    width, height = size
    shares = np.linspace(0.0, 1.0, height)[:, None, None]
    rows = np.array(top) * (1 - shares) + np.array(bottom) * shares
    return Image.fromarray(np.rint(np.broadcast_to(rows, (height, width, 3))).astype(np.uint8))


def with_ball(picture: Image.Image, x: int, y: int, radius: int, colour: Colour) -> Image.Image:
    """A shaded ball: light from the upper left."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1] / radius
    depth = np.sqrt(np.clip(1 - rows**2 - columns**2, 0, 1))
    light = np.clip(0.35 + 0.75 * (depth - rows - columns) / math.sqrt(3), 0.15, 1.15)
    ball = Image.fromarray(np.clip(light[..., None] * np.array(colour), 0, 255).astype(np.uint8))
    mask = Image.fromarray(((rows**2 + columns**2 <= 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    result = picture.copy()
    result.paste(ball, (x - radius, y - radius), mask)
    return result


def with_grain(picture: Image.Image, seed: int) -> Image.Image:
    pixels = np.asarray(picture, np.float32)
    grain = np.random.default_rng(seed).normal(scale=4.0, size=pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(*render_samples(parser.parse_args().folder), sep="\n")
