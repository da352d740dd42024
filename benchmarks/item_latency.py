"""What the service adds to one small item on an idle worker: from the commit of its row to `succeeded`.

    python benchmarks/item_latency.py            # 300 pictures, one after the other

Download and encoding are taken off: they are the source's and the model's. What is left is the broker, the claim, the
decoding, the store and the record, with Postgres, Valkey and SeaweedFS on this machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.service_ceiling import make_pictures, run, service
from worker.records import ItemRecord

STAGES = ("fetch", "lookup", "decode", "encode", "store")


def main() -> None:
    arguments = parse_arguments()
    with service() as (cluster, _):
        folder = cluster.folder
        cluster.start_workers(1, GLM4V_TEST_NULL_DIM="64")
        print_conditions(arguments)
        # Fills pools and caches, and starts the decoders.
        run(cluster, make_pictures(folder / "first", 100, 112, seed=0))
        jobs = [run(cluster, [source]) for source in make_pictures(folder / "pictures", arguments.items, 112, seed=1)]
        report([item for job in jobs for item in cluster.items(job)])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=300, help="pictures, one after the other (default: 300)")
    return parser.parse_args()


def report(items: list[ItemRecord]) -> None:
    print(f"{'':<28}{'p50 ms':>10}{'p99 ms':>10}")
    print_row("added by the service", [overhead(item) for item in items])
    print_row("  before its claim", [(item.started_at - item.created_at).total_seconds() for item in items])
    for stage in STAGES:
        print_row(f"  {stage}", [item.timings[stage] for item in items])


def overhead(item: ItemRecord) -> float:
    """Seconds from the row's commit to its end, less download and encoding."""
    whole = (item.finished_at - item.created_at).total_seconds()
    return whole - item.timings["fetch"] - item.timings["encode"]


def print_row(name: str, seconds: list[float]) -> None:
    print(f"{name:<28}{1000 * median(seconds):>10.1f}{1000 * quantiles(seconds, n=100)[98]:>10.1f}")


def print_conditions(arguments: argparse.Namespace) -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}; one idle worker;"
        f" {arguments.items} pictures of 112x112, one after the other\n"
    )


if __name__ == "__main__":
    main()
