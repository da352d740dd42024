"""Does the encoder ever wait for a socket? Its share of busy time while sources take 50 to 150 ms to answer.

    python benchmarks/encoder_busy.py                      # one worker, 3,000 pictures
    python benchmarks/encoder_busy.py --item-ms 4          # a slower encoder: fewer items keep it busy

The encoder is simulated: a batch keeps it busy for 20 ms, and for 0.5 ms more for each item in it. Everything else is
real: Postgres, Valkey, SeaweedFS, and a web server that keeps every answer back for a while of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import random
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.service_ceiling import make_pictures, service
from tests.cluster import Cluster
from tests.servers import free_port

DELAYS = (0.050, 0.150)


def main() -> None:
    arguments = parse_arguments()
    with service() as (cluster, _):
        port = free_port()
        cluster.start_workers(
            1,
            GLM4V_METRICS_PORT=str(port),
            GLM4V_ITEM_THREADS=str(arguments.threads),
            GLM4V_TEST_BATCH_SECONDS="0.020",
            GLM4V_TEST_ITEM_SECONDS=str(arguments.item_ms / 1000),
        )
        print_conditions(arguments)
        with slow_web_server(cluster.folder, arguments.items) as sources:
            report(cluster, sources, port)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000, help="pictures to embed (default: 3,000)")
    parser.add_argument("--item-ms", type=float, default=0.5, help="encoder time of one more item (default: 0.5)")
    parser.add_argument("--threads", type=int, default=64, help="items under way at once (default: 64)")
    return parser.parse_args()


@contextmanager
def slow_web_server(folder: Path, count: int) -> Iterator[list[str]]:
    """Serve `count` pictures from a process of its own. Gives their addresses."""
    pictures = make_pictures(folder / "pictures", count, 112, seed=1)
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(folder / "pictures", port), daemon=True)
    server.start()
    try:
        yield [f"http://127.0.0.1:{port}/{source.rpartition('/')[2]}" for source in pictures]
    finally:
        server.kill()


def serve(folder: Path, port: int) -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda reader, writer: answer(folder, reader, writer), "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(run())


async def answer(folder: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.readline():
        while (await reader.readline()).strip():
            pass
        await asyncio.sleep(random.uniform(*DELAYS))
        data = (folder / Path(request.split()[1].decode()).name).read_bytes()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
    writer.close()


def report(cluster: Cluster, sources: list[str], port: int) -> None:
    """Measured between the first fifth and the last: filling and emptying the pipeline is not what it does all day."""
    job = cluster.submit(sources)
    cluster.wait_until_begun(job, len(sources) // 5)
    before, begun = read_metrics(port), time.monotonic()
    cluster.wait_until_begun(job, 4 * len(sources) // 5)
    after, seconds = read_metrics(port), time.monotonic() - begun
    cluster.wait_until_done(job)
    grown = {name: after[name] - before[name] for name in before}
    items = grown['glm4v_items_total{code="",outcome="succeeded"}']
    print(f"{'encoder busy':<20}{grown['glm4v_device_busy_seconds_total'] / seconds:>10.1%}")
    print(f"{'items/s':<20}{items / seconds:>10.0f}")
    print(f"{'items per batch':<20}{items / grown['glm4v_forwards_total']:>10.1f}")
    print(f"{'CPU of the machine':<20}{'':>6}load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def read_metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def print_conditions(arguments: argparse.Namespace) -> None:
    low, high = (int(1000 * delay) for delay in DELAYS)
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}; one worker, {arguments.threads} item threads;"
        f" downloads of {low} to {high} ms; encoder 20 ms + {arguments.item_ms:g} ms per item\n"
    )


if __name__ == "__main__":
    main()
