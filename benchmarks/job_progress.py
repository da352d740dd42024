"""How long does "how far is it?" take for a job of a million items? GET /v1/jobs/{id}, over Postgres and uvicorn.

    python benchmarks/job_progress.py                          # 1,000,000 items, 50 requests a second for 60 seconds
    python benchmarks/job_progress.py --items 10000 --seconds 5
    python benchmarks/job_progress.py --idle                   # without anybody who changes the job meanwhile

Requests begin at fixed times whether or not earlier ones were answered, and each is timed from when it should have
begun: a server that stalls is not spared the requests that wait for it. Beside them somebody claims and finishes items
of the job, as workers do, so that its counters change all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from uuid import UUID

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import Postgres, end_with_parent, free_port
from worker.database import create_engine, migrate
from worker.records import Failed, NewJob, Source
from worker.repository import Repository

MODEL = "random:tiny"
#: Items that the stand-in for workers finishes at a time, and how often a second.
BATCH, BATCHES_A_SECOND = 16, 10
#: Requests before those that count: connections are opened and code is loaded.
WARM_UP = 100


def main() -> None:
    arguments = parse_arguments()
    with ExitStack() as stack:
        postgres = Postgres(durable=True).start()
        stack.callback(postgres.close)
        migrate(postgres.url)
        repository = Repository(create_engine(postgres.url, timeout_seconds=3600))
        stack.callback(repository.close)
        job_id = submit(repository, arguments.items)
        url = stack.enter_context(served(postgres.url))
        if not arguments.idle:
            stack.enter_context(working(repository))
        times = asyncio.run(ask(url, job_id, rate=arguments.rate, seconds=arguments.seconds))
    report(arguments, times)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the job (default: 1,000,000)")
    parser.add_argument("--rate", type=float, default=50, help="requests a second (default: 50)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--idle", action="store_true", help="leave the job as it is meanwhile")
    return parser.parse_args()


def submit(repository: Repository, items: int) -> UUID:
    job, _ = repository.create_job(NewJob(model=MODEL))
    repository.add_items(job.id, (Source(source=f"s3://media/{number}.jpg") for number in range(items)))
    repository.close_job(job.id)
    return job.id


@contextmanager
def served(database_url: str) -> Iterator[str]:
    """The URL of an API process, for the length of the block."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "DATABASE_URL": database_url,
            "STORE_URL": f"file://{folder}",
            "MODEL": MODEL,
            "LOG_LEVEL": "warning",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "api.main:app", "--port", str(port)],
            env={**os.environ, **{f"GLM4V_{name}": value for name, value in settings.items()}},
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            httpx.get(f"{url}/readyz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the API ended before it answered: run `uvicorn api.main:app` to see why")


@contextmanager
def working(repository: Repository) -> Iterator[None]:
    """Somebody finishes items of the job, for the length of the block."""
    stopping = threading.Event()
    thread = threading.Thread(target=finish_items, args=(repository, stopping))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def finish_items(repository: Repository, stopping: threading.Event) -> None:
    while not stopping.wait(1 / BATCHES_A_SECOND):
        chosen = repository.dispatch(MODEL, window_items=2**31, limit=BATCH)
        claimed = repository.claim([item.id for item in chosen], worker="benchmark", lease_seconds=60)
        repository.record([Failed(item=item, code="not_found", message="made up") for item in claimed])


async def ask(url: str, job_id: UUID, *, rate: float, seconds: float) -> list[float]:
    """Seconds that each request took from when it was to begin."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(WARM_UP):
            await timed(client, job_id, time.perf_counter())
        began = time.perf_counter() + 0.1
        starts = (began + number / rate for number in range(int(rate * seconds)))
        return await asyncio.gather(*(timed(client, job_id, start) for start in starts))


async def timed(client: httpx.AsyncClient, job_id: UUID, start: float) -> float:
    await asyncio.sleep(max(0.0, start - time.perf_counter()))
    answer = await client.get(f"/v1/jobs/{job_id}")
    answer.raise_for_status()
    return time.perf_counter() - start


def report(arguments: argparse.Namespace, times: list[float]) -> None:
    percent = quantiles(times, n=1000)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores for client, API and Postgres")
    state = "as it is" if arguments.idle else f"with {BATCH * BATCHES_A_SECOND} items finished a second"
    print(f"a job of {arguments.items:,} items, {state}; {len(times):,} requests, {arguments.rate:g} a second")
    for name, share in (("p50", 500), ("p90", 900), ("p99", 990)):
        print(f"{name:>8} {percent[share - 1] * 1000:8.1f} ms")
    print(f"{'longest':>8} {max(times) * 1000:8.1f} ms")


if __name__ == "__main__":
    main()
