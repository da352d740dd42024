"""Does the queue's cost grow with its table? Claim, record, dispatch, reconcile and progress, in a Postgres that grows.

    python benchmarks/repository_scale.py                       # 10^4 to 10^6 rows, and 1,000,000 references submitted
    python benchmarks/repository_scale.py --rows 10000000       # up to 10^7: about ten minutes and 8 GB of disk
    python benchmarks/repository_scale.py --url postgresql://…  # a database of your own; it must be empty

Half the rows are finished, half wait. Each operation is timed on messages of 16 items taken from the waiting ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from glm4v_client.states import MediaKind
from worker.database import create_engine, migrate
from worker.records import ClaimedItem, EmbeddingRecord, NewJob, Source, Succeeded
from worker.repository import Repository

MODEL = "zai-org/GLM-4.1V-9B-Thinking"
ITEMS_PER_MESSAGE = 16
ROUNDS = 100
#: The lowest of their medians is reported: what else the machine does adds to a time and never takes from it.
REPEATS = 3
OPERATIONS = ("dispatch", "claim", "renew", "record", "reconcile", "progress", "depths")


def main() -> None:
    arguments = parse_arguments()
    if arguments.url:
        run(arguments.url, arguments.rows, arguments.submit)
        return
    from tests.servers import Postgres

    server = Postgres(durable=True).start()
    try:
        run(server.url, arguments.rows, arguments.submit)
    finally:
        server.close()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the largest table (default: 1,000,000)")
    parser.add_argument("--submit", type=int, default=1_000_000, help="references to submit (default: 1,000,000)")
    parser.add_argument("--url", help="an empty Postgres database; one is started if not given")
    return parser.parse_args()


def run(url: str, rows: int, submit: int) -> None:
    migrate(url)
    engine = create_engine(url, connections=2, timeout_seconds=3600)
    repository = Repository(engine)
    first: dict[str, float] = {}
    for size in (10**power for power in range(4, 9) if 10**power <= rows):
        fill(engine, repository, size)
        repeats = [measure(repository) for _ in range(REPEATS)]
        medians = {name: min(repeat[name] for repeat in repeats) for name in OPERATIONS}
        first = first or medians
        report(size, medians, first)
    measure_submit(repository, submit)
    engine.dispose()


def fill(engine: Engine, repository: Repository, size: int) -> None:
    """Grow the table to `size` rows, half of them finished, as years of use would have left them."""
    with engine.connect() as connection:
        present = connection.execute(text("SELECT count(*) FROM items")).scalar_one()
    missing = (size - present) // 2
    for state in ("succeeded", "queued"):
        job, _ = repository.create_job(NewJob(model=MODEL))
        with engine.begin() as connection:
            connection.execute(FILL[state], {"job": job.id, "count": missing, "model": MODEL, "salt": uuid.uuid4().hex})
            connection.execute(
                text(f"UPDATE jobs SET total = :count, {state} = :count, closed_at = now() WHERE id = :job"),
                {"job": job.id, "count": missing},
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


FILL = {
    "succeeded": text(
        """
        WITH made AS (
            INSERT INTO embeddings (content_sha256, fingerprint, kind, object_key, grid_thw, num_tokens, dim, dtype,
                                    byte_size, object_sha256)
            SELECT encode(sha256((:salt || n)::bytea), 'hex'), repeat('f', 64), 'image', 'embeddings/' || :salt || n,
                   '[1, 24, 24]', 144, 4096, 'bfloat16', 1179800, repeat('0', 64)
            FROM generate_series(1, CAST(:count AS bigint)) AS n
            RETURNING id
        )
        INSERT INTO items (job_id, position, source, kind, model, priority, state, attempt, embedding_id, timings,
                           started_at, finished_at)
        SELECT :job, row_number() OVER (), 's3://photos/archive/' || id || '.jpg', 'auto', :model, 5, 'succeeded', 1,
               id, '{"fetch": 0.05, "decode": 0.02, "encode": 0.03, "store": 0.04}', now(), now()
        FROM made
        """
    ),
    "queued": text(
        """
        INSERT INTO items (job_id, position, source, kind, model, priority)
        SELECT :job, n, 's3://photos/archive/' || :salt || '/' || n || '.jpg', 'auto', :model, 5
        FROM generate_series(1, CAST(:count AS bigint)) AS n
        """
    ),
}


def measure(repository: Repository) -> dict[str, float]:
    """Median milliseconds of each operation on one message, or on one pass."""
    seconds: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    job = repository.list_jobs(limit=1)[0]
    for _ in range(ROUNDS):
        with timed(seconds["dispatch"]):
            sent = repository.dispatch(MODEL, window_items=10**6, limit=ITEMS_PER_MESSAGE)
        with timed(seconds["claim"]):
            items = repository.claim([item.id for item in sent], worker="bench", lease_seconds=60)
        with timed(seconds["renew"]):
            renewal = repository.renew(items, lease_seconds=60)
        outcomes = [success(item) for item in items]
        with timed(seconds["record"]):
            recorded = repository.record(outcomes)
        with timed(seconds["reconcile"]):
            repository.reconcile(max_attempts=5, redeliver_after={MODEL: 600})
        with timed(seconds["progress"]):
            repository.get_job(job.id)
        with timed(seconds["depths"]):
            repository.queue_depths()
        assert len(renewal.held) == len(recorded.accepted) == ITEMS_PER_MESSAGE
    return {name: statistics.median(values) * 1000 for name, values in seconds.items()}


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    into.append(time.perf_counter() - start)


def success(item: ClaimedItem) -> Succeeded:
    content = f"{uuid.uuid4().hex}{uuid.uuid4().hex}"
    made = EmbeddingRecord(
        content_sha256=content,
        fingerprint="f" * 64,
        kind=MediaKind.IMAGE,
        object_key=f"embeddings/{content}",
        grid_thw=(1, 24, 24),
        timestamps=None,
        frame_indices=None,
        num_tokens=144,
        dim=4096,
        dtype="bfloat16",
        byte_size=1_179_800,
        object_sha256="0" * 64,
    )
    return Succeeded(item=item, embedding=made, timings={"fetch": 0.05, "decode": 0.02, "encode": 0.03, "store": 0.04})


def report(size: int, medians: dict[str, float], first: dict[str, float]) -> None:
    times = ", ".join(f"{name} {medians[name]:.2f} ms" for name in OPERATIONS)
    growth = max(medians[name] / first[name] for name in ("claim", "record"))
    print(f"{size:>10,} rows: {times}; claim and record at most {growth:.2f} times the first", flush=True)
    print(json.dumps({"rows": size, "median_ms": medians, "growth": growth}), file=sys.stderr, flush=True)


def measure_submit(repository: Repository, count: int) -> None:
    before = peak_megabytes()
    start = time.perf_counter()
    job, _ = repository.create_job(NewJob(model=MODEL))
    repository.add_items(job.id, references(count))
    repository.close_job(job.id)
    seconds = time.perf_counter() - start
    assert repository.get_job(job.id).progress.queued == count
    grown = peak_megabytes() - before
    print(f"{count:,} references submitted in {seconds:.1f} s; this process grew by {grown:.0f} MB")


def references(count: int) -> Iterator[Source]:
    for number in range(count):
        yield Source(source=f"https://media.example.org/photos/{number:09d}/original.jpg")


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
