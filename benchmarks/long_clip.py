"""Memory for a long clip: ours, which resizes frames as they come, and transformers', which decodes all of them first.

Each reading runs in a process of its own, and its figure is the peak of that process's resident memory over what it
was before the clip. The clip is ten seconds of moving 1080p, encoded once and repeated packet by packet.

transformers (its PyAV reader; the one it prefers, torchcodec, is not installed here) keeps every sampled frame at full
size, which an hour's 600 would need some 10 GB for. It is measured on a part of the clip and on half of that part, both
long enough to use up the pixel budget, and the line through the two gives its figure for the whole clip.
"""

from __future__ import annotations

import argparse
import json
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
        whole, part, half = (
            render(Path(directory) / f"{minutes:g}.mp4", minutes * 60)
            for minutes in (arguments.minutes, arguments.part_minutes, arguments.part_minutes / 2)
        )
        readings = [
            measured_apart(*reading)
            for reading in (
                ("ours to uint8 patches", whole),
                ("ours", whole),
                ("ours", part),
                ("transformers", half),
                ("transformers", part),
            )
        ]
    report = {
        "clip": f"{WIDTH}x{HEIGHT} at {FPS}/s, H.264",
        "readings": readings,
        "transformers_whole_mib": extrapolated(readings[-2], readings[-1], readings[0]["frames"]),
    }
    print(json.dumps(report) if arguments.json else table(report))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="length of the clip (60)")
    parser.add_argument("--part-minutes", type=float, default=1, help="length of the part given to transformers (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", choices=list(READERS), help=argparse.SUPPRESS)
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
    read = READERS[name]()
    before = resident_mib("VmRSS")
    started = time.perf_counter()
    grid = read(clip)
    return {
        "reader": name,
        "minutes": float(clip.stem),
        "frames": grid[0] * 2,
        "grid_thw": grid,
        "peak_mib": round(resident_mib("VmHWM") - before),
        "before_mib": round(before),
        "seconds": round(time.perf_counter() - started, 1),
    }


def our_reader() -> Callable[[Path], list[int]]:
    from glm4v_core.processing import Glm4vVideoProcessor

    processor = Glm4vVideoProcessor()
    return lambda clip: processor(clip).video_grid_thw[0].tolist()


def our_patch_reader() -> Callable[[Path], list[int]]:
    from glm4v_core.processing import Glm4vVideoProcessor

    processor = Glm4vVideoProcessor()
    return lambda clip: list(processor.patches(clip)[0].grid_thw)


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


READERS = {"ours": our_reader, "ours to uint8 patches": our_patch_reader, "transformers": their_reader}


def resident_mib(name: str) -> float:
    """Resident memory now ("VmRSS") or at its peak ("VmHWM"); getrusage's peak would count that of the parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def extrapolated(half: dict[str, Any], part: dict[str, Any], frames: int) -> int:
    per_frame = (part["peak_mib"] - half["peak_mib"]) / (part["frames"] - half["frames"])
    return round(part["peak_mib"] + per_frame * (frames - part["frames"]))


def table(report: dict[str, Any]) -> str:
    lines = [report["clip"], f"{'':24}{'minutes':>8}{'frames':>8}{'peak MiB':>10}{'seconds':>9}"]
    lines += [
        f"{row['reader']:24}{row['minutes']:8g}{row['frames']:8}{row['peak_mib']:10}{row['seconds']:9}"
        for row in report["readings"]
    ]
    whole = report["readings"][0]
    lines.append(
        f"{'transformers, computed':24}{whole['minutes']:8g}{whole['frames']:8}{report['transformers_whole_mib']:10}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
