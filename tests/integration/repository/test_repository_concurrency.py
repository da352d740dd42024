"""Many workers at once, on Postgres, where they really run beside each other."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from glm4v_client.states import ItemState
from tests.repositories import LEASE, MODEL, check_counters, embedding, item_ids, make_job, sources, succeeded
from tests.servers import Postgres
from worker.database import create_engine
from worker.records import ClaimedItem, DueDelivery, Failed, Outcome, Released, Retry, Succeeded
from worker.repository import Repository

WORKERS = 12


@pytest.fixture
def engine(postgres: Postgres, migrated_postgres: str) -> Iterator[Engine]:
    url = postgres.create_database(template=migrated_postgres)
    # A deadlock fails its test at once and does not wait for a second to be found.
    postgres.execute(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET deadlock_timeout = '20ms'")
    engine = create_engine(url, connections=WORKERS + 2)
    yield engine
    engine.dispose()
    postgres.drop_database(url)


def side_by_side(work: Callable[[int], object], count: int = WORKERS) -> list[object]:
    """Run `work(0)` to `work(count - 1)` at the same time. Raises what any of them raised."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_an_item_has_one_claimant_however_many_ask(repository: Repository):
    job = make_job(repository, 60)
    ids = item_ids(repository, job)

    def ask(number: int) -> list[ClaimedItem]:
        mine = random.Random(number).sample(ids, len(ids))
        claims = [
            repository.claim(mine[start : start + 16], worker=f"w{number}", lease_seconds=LEASE)
            for start in range(0, 60, 16)
        ]
        return list(itertools.chain.from_iterable(claims))

    claimed = [item for items in side_by_side(ask) for item in items]
    assert sorted(item.id for item in claimed) == ids
    assert repository.get_job(job.id).progress.running == 60


def test_a_message_is_sent_once_however_many_dispatch(repository: Repository):
    make_job(repository, 300)

    def send(_: int) -> list[int]:
        return [item.id for _ in range(5) for item in repository.dispatch(MODEL, window_items=10_000, limit=7)]

    sent = [item for items in side_by_side(send) for item in items]
    sent += [item.id for item in repository.dispatch(MODEL, window_items=10_000)]
    assert len(sent) == len(set(sent)) == 300


def test_the_same_contents_met_at_the_same_moment_end_with_one_row_each(repository: Repository, engine: Engine):
    jobs = [make_job(repository, 12) for _ in range(WORKERS)]

    def work(number: int) -> list[str]:
        items = repository.claim(item_ids(repository, jobs[number]), worker="w", lease_seconds=LEASE)
        # Every worker has the same twelve contents, in an order of its own.
        contents = random.Random(number).sample("0123456789ab", 12)
        outcomes = [succeeded(item, content) for item, content in zip(items, contents, strict=True)]
        recorded = repository.record(outcomes)
        assert recorded.accepted == {item.id for item in items}
        made = {outcome.embedding.object_key for outcome in outcomes}
        return sorted(made - set(recorded.unused_objects))

    kept = [key for keys in side_by_side(work) for key in keys]
    with engine.connect() as connection:
        stored = list(connection.execute(text("SELECT object_key FROM embeddings")).scalars())
    assert sorted(kept) == sorted(stored)
    assert len(stored) == 12


def test_items_are_added_by_many_at_once_and_keep_their_places(repository: Repository):
    job = make_job(repository, 0, close=False)
    side_by_side(lambda number: repository.add_items(job.id, sources(40 + number)))
    expected = sum(40 + number for number in range(WORKERS))
    items = repository.list_items(job.id, limit=10_000)
    assert sorted(item.position for item in items) == list(range(expected))


def test_a_job_is_made_once_however_often_it_is_asked_for(repository: Repository):
    made = side_by_side(lambda _: make_job(repository, 5, idempotency_key="same").id)
    assert len(set(made)) == 1
    assert repository.get_job(made[0]).progress.total == 5


def test_one_reconciles_at_a_time(repository: Repository, engine: Engine):
    with engine.begin() as another:
        another.execute(text("SELECT pg_advisory_xact_lock(4111001)"))
        assert repository.reconcile(max_attempts=3, redeliver_after={MODEL: 0}) is None
    assert repository.reconcile(max_attempts=3, redeliver_after={MODEL: 0}) is not None


def test_a_storm_of_everything_at_once_ends_with_every_item_in_one_terminal_state(
    repository: Repository, engine: Engine
):
    """Claims, every outcome, renewals, lost leases, cancellation, retries, deletion and retention, with no deadlock."""
    jobs = [make_job(repository, 40, priority=number % 3) for number in range(6)]
    doomed = make_job(repository, 40)
    everything = [item for job in (*jobs, doomed) for item in item_ids(repository, job)]
    stop = threading.Event()

    def upkeep(chance: random.Random) -> None:
        while not stop.wait(0.001):
            repository.reconcile(max_attempts=50, redeliver_after={MODEL: 0})
            if chance.random() < 0.2:
                repository.expire_leases()
            repository.dispatch(MODEL, window_items=64)
            retired = repository.retire_embeddings(older_than_seconds=0)
            repository.remove_retired([one.stored_id for one in retired])

    def outcome(item: ClaimedItem, chance: random.Random) -> Outcome:
        kind = chance.randrange(6)
        if kind == 0:
            return Retry(item=item, code="c", message="m", delay_seconds=chance.choice([-1, 0.01]))
        if kind == 1:
            return Released(item=item)
        if kind == 2:
            return Failed(item=item, code="c", message="m")
        content = chance.choice("0123456789abcdef")
        found = repository.find_embedding(content * 64, "f" * 64)
        return Succeeded(item=item, embedding=found or embedding(content))

    def work(number: int) -> None:
        chance = random.Random(number)
        if number == 0:
            upkeep(chance)
            return
        for round_ in range(40):
            items = repository.claim(chance.sample(everything, 16), worker=f"w{number}", lease_seconds=LEASE)
            repository.renew(items, lease_seconds=LEASE)
            repository.record([outcome(item, chance) for item in items])
            if number == 1 and round_ == 10:
                repository.cancel_job(jobs[0].id)
            if number == 2 and round_ % 10 == 9:
                repository.retry_failed(jobs[1].id)
            if number == 3 and round_ == 20:
                repository.delete_job(doomed.id)
        if number == 3:
            stop.set()

    side_by_side(work)
    check_counters(engine)
    finish(repository)
    for job in jobs:
        progress = repository.get_job(job.id).progress
        assert progress.done == progress.total == 40
    ends = Counter(item.state for job in jobs for item in repository.list_items(job.id))
    assert set(ends) <= {ItemState.SUCCEEDED, ItemState.FAILED, ItemState.CANCELLED}


def finish(repository: Repository) -> None:
    repository.expire_leases()
    while repository.queue_depths():
        repository.reconcile(max_attempts=50, redeliver_after={MODEL: 0})
        ids = [item.id for item in repository.dispatch(MODEL, window_items=10_000)]
        items = repository.claim(ids, worker="last", lease_seconds=LEASE)
        repository.record([succeeded(item, "0") for item in items])


def test_the_same_call_repeated_by_impatient_clients_adds_its_items_once(repository: Repository):
    job = make_job(repository, 0, close=False)
    added = side_by_side(lambda _: repository.add_items(job.id, sources(500), first_position=0))
    assert sorted(added) == [0] * (WORKERS - 1) + [500]
    items = repository.list_items(job.id, limit=1000)
    assert [item.position for item in items] == list(range(500))


def test_a_delivery_has_one_sender_however_many_ask(repository: Repository):
    for _ in range(40):
        make_job(repository, 0, webhook="http://receiver/")

    def ask(_: int) -> list[DueDelivery]:
        return [due for _ in range(10) for due in repository.webhooks.claim(lease_seconds=60, limit=3)]

    claimed = [due for deliveries in side_by_side(ask) for due in deliveries]
    claimed += repository.webhooks.claim(lease_seconds=60, limit=100)
    assert sorted(due.job.id for due in claimed) == sorted(job.id for job in repository.list_jobs())


def test_a_chore_has_one_worker_however_many_ask(repository: Repository):
    assert sorted(side_by_side(lambda _: repository.begin_chore("tidy", interval_seconds=60))) == [False] * 11 + [True]
