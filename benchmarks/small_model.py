"""What is left of a model's speed when the whole service stands around it: end to end over the bare encoder.

    python benchmarks/small_model.py                  # random:tiny in float32 on the CPU, 200 pictures of 672x672

The bare encoder is given patches that lie ready in memory, in batches of the worker's own patch budget; it is measured
before and after, because a machine's speed drifts. End to end, the same pictures go through a real worker and real
servers on the same cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.service_ceiling import make_pictures, run, service
from glm4v_client.states import MediaKind
from glm4v_core.image_reading import read_image
from glm4v_core.processing import Glm4vImageProcessor
from tests.cluster import Cluster
from worker.encoder import TorchEncoder, load_encoder
from worker.encoding import EncodeRequest

MODEL = "random:tiny"
PATCH_BUDGET = 16_384


def main() -> None:
    arguments = parse_arguments()
    with service() as (cluster, _):
        folder = cluster.folder
        print_conditions(arguments)
        sources = make_pictures(folder / "pictures", arguments.items, arguments.edge, seed=1)
        encoder = load_encoder(MODEL, device="cpu", dtype="float32")
        requests = [request_of(encoder, folder / "pictures" / f"{number}.jpg") for number in range(32)]
        bare = [measure_bare(encoder, requests, arguments.items)]
        whole = measure_service(cluster, sources, make_pictures(folder / "first", 32, arguments.edge, seed=0))
        bare.append(measure_bare(encoder, requests, arguments.items))
        report(bare, whole)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200, help="pictures to embed (default: 200)")
    parser.add_argument("--edge", type=int, default=672, help="pixels of a picture's edge (default: 672)")
    return parser.parse_args()


def request_of(encoder: TorchEncoder, path: Path) -> EncodeRequest:
    """What a decoder would hand to the engine."""
    processor = Glm4vImageProcessor(**encoder.processor_settings(MediaKind.IMAGE, {}))
    patches = processor.patches(read_image(path))
    data = bytearray(patches.data.contiguous().numpy().tobytes())
    return EncodeRequest(patches=memoryview(data), grid_thw=patches.grid_thw, dtype="float32")


def measure_bare(encoder: TorchEncoder, requests: list[EncodeRequest], items: int) -> float:
    """Items a second of the encoder alone, in full batches."""
    size = max(1, PATCH_BUDGET // requests[0].segment_patches)
    encoder.start(requests[:size]).tokens()
    begun, done = time.monotonic(), 0
    while done < items:
        batch = [requests[(done + offset) % len(requests)] for offset in range(size)]
        encoder.start(batch).tokens()
        done += size
    return done / (time.monotonic() - begun)


def measure_service(cluster: Cluster, sources: list[str], first: list[str]) -> float:
    """Items a second from a job's first claim to its end."""
    cluster.model = MODEL
    (worker,) = cluster.start_workers(
        1,
        app="worker",
        GLM4V_MODEL=MODEL,
        GLM4V_DTYPE="float32",
        GLM4V_PATCH_BUDGET=str(PATCH_BUDGET),
        OMP_NUM_THREADS=str(torch.get_num_threads()),
    )
    run(cluster, first)
    progress = cluster.progress(run(cluster, sources))
    worker.terminate(seconds=60)
    return progress.total / (progress.finished_at - progress.started_at).total_seconds()


def report(bare: list[float], whole: float) -> None:
    mean = sum(bare) / len(bare)
    print(f"{'bare encoder, before':<28}{bare[0]:>8.2f} items/s")
    print(f"{'end to end':<28}{whole:>8.2f} items/s")
    print(f"{'bare encoder, after':<28}{bare[1]:>8.2f} items/s")
    print(f"{'end to end over bare':<28}{whole / mean:>8.1%}")


def print_conditions(arguments: argparse.Namespace) -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()},"
        f" torch {torch.__version__} on {torch.get_num_threads()} threads; {MODEL} in float32;"
        f" {arguments.items} pictures of {arguments.edge}x{arguments.edge}\n"
    )


if __name__ == "__main__":
    main()
