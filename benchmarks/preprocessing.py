"""Photos a second on one core: ours from file to uint8 patches, and transformers' from file to pixel values.

Each photo is measured in turns (ours, theirs through PIL, theirs through its own loader, ours, ...), so that whatever
else the machine does falls on all of them; the ratio given is the median of the ratios within each turn. transformers
has no form that leaves normalisation to the device, so its float32 pixel values are what it hands over; a last column
gives ours taken that far too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from transformers.models.glm4v.image_processing_glm4v import Glm4vImageProcessor as TheirImageProcessor

from glm4v_core.image_reading import read_image
from glm4v_core.processing import CHECKPOINT_IMAGE_SIZE, Glm4vImageProcessor

SIZES = {"12 MP": (4000, 3000), "640x480": (640, 480)}
OURS, THEIRS_PIL, THEIRS_PATH, OURS_FLOAT = "ours", "theirs, PIL", "theirs, own loader", "ours to float32"


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        # torchvision's image decoder, which transformers' own loader uses, is announced to go.
        warnings.simplefilter("ignore")
        report = {name: measure(write_photo(Path(directory), size), arguments.seconds) for name, size in SIZES.items()}
    print(json.dumps(report) if arguments.json else table(report))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="measuring time for each size of photo (20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def write_photo(directory: Path, size: tuple[int, int]) -> Path:
    """A JPEG with a photo's share of detail: noise, blurred as a lens would."""
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
    path = directory / f"{width}x{height}.jpg"
    image.save(path, quality=90)
    return path


def programs(path: Path) -> dict[str, Callable[[], Any]]:
    ours = Glm4vImageProcessor()
    theirs = TheirImageProcessor(size=CHECKPOINT_IMAGE_SIZE)
    return {
        OURS: lambda: ours.patches(read_image(path)),
        THEIRS_PIL: lambda: theirs(images=Image.open(path), return_tensors="pt"),
        THEIRS_PATH: lambda: theirs(images=str(path), return_tensors="pt"),
        OURS_FLOAT: lambda: ours(images=path, return_tensors="pt"),
    }


def measure(path: Path, seconds: float) -> dict[str, Any]:
    """Take turns until the time is up; return photos a second, and how many times theirs ours is."""
    contestants = programs(path)
    for run in contestants.values():
        run()
    turns: list[dict[str, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(turns) < 3:
        turns.append({name: timed(run) for name, run in contestants.items()})
    return {
        "bytes": path.stat().st_size,
        "turns": len(turns),
        "photos_per_second": {
            name: round(1 / statistics.median(turn[name] for turn in turns), 2) for name in contestants
        },
        "times_theirs": {
            f"{mine} / {name}": round(statistics.median(turn[name] / turn[mine] for turn in turns), 2)
            for mine in (OURS, OURS_FLOAT)
            for name in (THEIRS_PIL, THEIRS_PATH)
        },
    }


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def table(report: dict[str, Any]) -> str:
    lines = []
    for name, measured in report.items():
        lines.append(f"{name} JPEG ({measured['bytes'] / 1e6:.2f} MB), one core, {measured['turns']} turns")
        lines += [f"  {who:20}{rate:9.2f} photos/s" for who, rate in measured["photos_per_second"].items()]
        lines += [f"  {pair:38}{ratio:5.2f} x" for pair, ratio in measured["times_theirs"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
