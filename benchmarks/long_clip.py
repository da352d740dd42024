"""Memory for a long clip: ours, which resizes frames as they come, and transformers', which decodes all of them first.

Both read the same file to pixel values, each in a process of its own, and the figure is the peak of that process's
resident memory over what it was before the clip. The clip is ten seconds of moving 1080p, encoded once and repeated
packet by packet. transformers keeps every sampled frame at full size, which an hour's 600 would need some 10 GB for:
by default it is measured on a minute and its figure for the whole clip is computed from that, frame by frame.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, FPS = 1920, 1080, 30
SEGMENT_SECONDS = 10


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, Path(arguments.clip))))
        return
    with tempfile.TemporaryDirectory() as directory:
        whole = render(Path(directory) / "whole.mp4", arguments.minutes * 60)
        part = render(Path(directory) / "part.mp4", arguments.theirs_minutes * 60)
        ours, ours_part, theirs_part = (
            measured_apart(name, clip) for name, clip in (("ours", whole), ("ours", part), ("theirs", part))
        )
    report = {
        "clip": f"{arguments.minutes:g} min of {WIDTH}x{HEIGHT} at {FPS}/s, H.264",
        "ours": ours,
        "part": f"{arguments.theirs_minutes:g} min of it",
        "ours_on_part": ours_part,
        "theirs_on_part": theirs_part,
        "theirs_computed_mib": round(theirs_part["peak_mib"] * ours["frames"] / theirs_part["frames"]),
    }
    print(json.dumps(report) if arguments.json else table(report))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="length of the clip (60)")
    parser.add_argument("--theirs-minutes", type=float, default=1, help="length of the part given to transformers (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--clip", help=argparse.SUPPRESS)
    return parser.parse_args()


def render(path: Path, seconds: float) -> Path:
    """Encode one segment, and repeat its packets until the clip is long enough."""
    segment = path.with_name("segment.mp4")
    if not segment.exists():
        encode_segment(segment)
    with av.open(str(segment)) as given:
        packets = [packet for packet in given.demux(video=0) if packet.size]
        duration = sum(packet.duration for packet in packets)
        with av.open(str(path), "w") as made:
            stream = made.add_stream_from_template(given.streams.video[0])
            for repeat in range(max(1, round(seconds / SEGMENT_SECONDS))):
                for packet in packets:
                    copy = av.Packet(bytes(packet))
                    copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                    copy.pts, copy.dts = packet.pts + repeat * duration, packet.dts + repeat * duration
                    made.mux(copy)
    return path


def encode_segment(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "28", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        scene = np.random.default_rng(0).integers(0, 256, (HEIGHT // 40, WIDTH // 40 * 2, 3), dtype=np.uint8)
        panorama = scene.repeat(40, axis=0).repeat(40, axis=1)
        for number in range(SEGMENT_SECONDS * FPS):
            view = np.ascontiguousarray(panorama[:, number * 6 : number * 6 + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))


def measured_apart(name: str, clip: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", name, "--clip", str(clip)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, Any] = json.loads(output)
    return measured


def measure(name: str, clip: Path) -> dict[str, Any]:
    read = {"ours": our_reader, "theirs": their_reader}[name]()
    before = resident_mib()
    started = time.perf_counter()
    grid = read(clip)
    return {
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before),
        "before_mib": round(before),
        "seconds": round(time.perf_counter() - started, 1),
        "grid_thw": grid,
        "frames": grid[0] * 2,
    }


def our_reader() -> Callable[[Path], list[int]]:
    from glm4v_core.processing import Glm4vVideoProcessor

    processor = Glm4vVideoProcessor()

    def read(clip: Path) -> list[int]:
        grid: list[int] = processor(clip).video_grid_thw[0].tolist()
        return grid

    return read


def their_reader() -> Callable[[Path], list[int]]:
    from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
    from transformers.video_utils import load_video

    processor = Glm4vVideoProcessor()

    def read(clip: Path) -> list[int]:
        frames, _ = load_video(str(clip), backend="pyav", sample_indices_fn=processor.sample_frames)
        features = processor(videos=frames, do_sample_frames=False, return_tensors="pt")
        grid: list[int] = features["video_grid_thw"][0].tolist()
        return grid

    return read


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def table(report: dict[str, Any]) -> str:
    rows = [("ours, whole clip", report["ours"]), ("ours, part", report["ours_on_part"])]
    rows.append(("transformers, part", report["theirs_on_part"]))
    lines = [f"{report['clip']}; part: {report['part']}", f"{'':20}{'frames':>8}{'peak MiB':>10}{'seconds':>9}"]
    lines += [f"{name:20}{row['frames']:8}{row['peak_mib']:10}{row['seconds']:9}" for name, row in rows]
    whole = report["ours"]["frames"], report["theirs_computed_mib"]
    return "\n".join([*lines, f"{'transformers, whole':20}{whole[0]:8}{whole[1]:10}   (computed from the part)"])


if __name__ == "__main__":
    main()
