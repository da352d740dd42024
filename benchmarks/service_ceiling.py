"""How many items a second the service itself can move: everything but the model, with every server on this machine.

    python benchmarks/service_ceiling.py                              # one worker, 4,000 small pictures
    python benchmarks/service_ceiling.py --workers 2 --dim 4096       # two workers, tokens of a real model's size

The encoder answers at once with zeros. What is left is ours and the servers': messages, claims, fetching, decoding,
storing and recording.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean, quantiles
from uuid import UUID

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster import Cluster
from tests.servers import S3, Postgres, Valkey
from tests.worker_process import WorkerProcess
from worker.records import ItemRecord

STAGES = ("fetch", "wait", "lookup", "decode", "encode", "store", "record", "total")


def main() -> None:
    arguments = parse_arguments()
    with service() as (cluster, servers):
        folder = cluster.folder
        workers = cluster.start_workers(arguments.workers, GLM4V_TEST_NULL_DIM=str(arguments.dim))
        print_conditions(arguments)
        # Fills pools and caches, and starts the decoders.
        run(cluster, make_pictures(folder / "first", 300, arguments.edge, seed=0))
        sources = make_pictures(folder / "measured", arguments.items, arguments.edge, seed=1)
        before = cpu_seconds(servers, workers)
        job = run(cluster, sources)
        after = cpu_seconds(servers, workers)
        report(cluster, job, {name: after[name] - before[name] for name in after})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4000, help="pictures to embed (default: 4,000)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: 1)")
    parser.add_argument("--edge", type=int, default=112, help="pixels of a picture's edge (default: 112)")
    parser.add_argument("--dim", type=int, default=64, help="numbers in one token (default: 64)")
    return parser.parse_args()


Servers = tuple[Postgres, Valkey, S3]


@contextmanager
def service() -> Iterator[tuple[Cluster, Servers]]:
    """Real servers with nothing in them, and what starts workers beside them; all gone at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = (Postgres().start(), Valkey().start(), S3().start())
        for server in servers:
            stack.callback(server.close)
        cluster = make_cluster(folder, *servers)
        stack.callback(cluster.close)
        yield cluster, servers


def make_cluster(folder: Path, postgres: Postgres, valkey: Valkey, s3: S3) -> Cluster:
    """The settings are a service's own: the tests' haste is taken back."""
    return Cluster(
        folder,
        GLM4V_DATABASE_URL=postgres.create_database(),
        GLM4V_BROKER_URL=valkey.url,
        GLM4V_STORE_URL=s3.store_url("ceiling"),
        GLM4V_S3_ACCESS_KEY=s3.access_key,
        GLM4V_S3_SECRET_KEY=s3.secret_key,
        GLM4V_FILE_ROOTS=str(folder),
        GLM4V_DTYPE="bfloat16",
        GLM4V_DECODE_PROCESSES="2",
        GLM4V_ITEM_THREADS="64",
        GLM4V_ITEMS_PER_MESSAGE="16",
        GLM4V_LEASE_SECONDS="120",
        GLM4V_RECONCILE_INTERVAL_SECONDS="5",
    )


def make_pictures(folder: Path, count: int, edge: int, *, seed: int) -> list[str]:
    """JPEG files, no two the same."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    sources = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((edge, edge), Image.Resampling.BICUBIC).save(path, quality=90)
        sources.append(path.as_uri())
    return sources


def run(cluster: Cluster, sources: list[str]) -> UUID:
    job = cluster.submit(sources)
    cluster.wait_until_done(job)
    progress = cluster.progress(job)
    assert progress.succeeded == len(sources), progress
    return job


def cpu_seconds(servers: Servers, workers: list[WorkerProcess]) -> dict[str, float]:
    """CPU time that each kind of process has taken so far."""
    postgres, valkey, s3 = servers
    families = [worker.family() for worker in workers]
    return {
        "worker": sum(_cpu(family[0]) for family in families),
        "decoders": sum(_cpu(process) for family in families for process in family[1:]),
        "Postgres": _tree_cpu(postgres),
        "Valkey": _tree_cpu(valkey),
        "S3": _tree_cpu(s3),
    }


def _tree_cpu(server: Postgres | Valkey | S3) -> float:
    process = psutil.Process(server.pid)
    return sum(_cpu(each) for each in (process, *process.children(recursive=True)))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def report(cluster: Cluster, job: UUID, cpu: dict[str, float]) -> None:
    items = cluster.items(job)
    progress = cluster.progress(job)
    seconds = (progress.finished_at - progress.started_at).total_seconds()
    print(f"\n{len(items) / seconds:.0f} items/s ({len(items)} in {seconds:.1f} s)\n")
    print(f"{'CPU':<20}{'ms per item':>12}")
    for name, spent in cpu.items():
        print(f"{name:<20}{1000 * spent / len(items):>12.2f}")
    ours = cpu["worker"] + cpu["decoders"]
    print(f"{'ours':<20}{1000 * ours / len(items):>12.2f}")
    print(f"{'all':<20}{1000 * sum(cpu.values()) / len(items):>12.2f}\n")
    report_stages(items)


def report_stages(items: list[ItemRecord]) -> None:
    """Where an item waits; with every core busy that is mostly for a core."""
    print(f"{'stage, as waited':<20}{'mean ms':>12}{'p99 ms':>12}")
    for stage in STAGES:
        times = [1000 * item.timings[stage] for item in items if stage in item.timings]
        if times:
            print(f"{stage:<20}{fmean(times):>12.2f}{quantiles(times, n=100)[98]:>12.2f}")


def print_conditions(arguments: argparse.Namespace) -> None:
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}; Postgres, Valkey and SeaweedFS beside the worker;"
        f" {arguments.workers} worker(s), 64 item threads, messages of 16;"
        f" pictures {arguments.edge}x{arguments.edge}, tokens of {arguments.dim} numbers"
    )


if __name__ == "__main__":
    main()
