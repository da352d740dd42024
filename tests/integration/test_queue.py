"""From rows to messages and back, on a real database and a real broker, without a worker."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from kombu.utils.json import loads

from glm4v_client.states import DEFAULT_PRIORITY, JobState
from tests.integration.conftest import running
from tests.servers import Valkey
from worker.celery import EmbedApp, message_priority, queue_name
from worker.database import create_engine, migrate, transaction
from worker.dispatch import Dispatcher, submit_job
from worker.errors import BrokerUnavailable, IdempotencyConflict
from worker.metrics import Metrics
from worker.reconcile import Reconciler
from worker.records import JobRecord, NewJob, Source
from worker.repository import Repository
from worker.settings import Settings

MODEL = "model"


class Queue:
    """Repository and broker, and what lies in each."""

    def __init__(self, database_url: str, broker_url: str, valkey: Valkey, **settings: object) -> None:
        migrate(database_url)
        self.settings = Settings(
            database_url=database_url,
            broker_url=broker_url,
            store_url="file:///nowhere",
            model=MODEL,
            **{"items_per_message": 4, "broker_timeout_seconds": 2, **settings},
        )
        self.valkey = valkey
        self.engine = create_engine(database_url)
        self.repository = Repository(self.engine)
        self.app = EmbedApp(lambda: self.settings)
        self.dispatcher = Dispatcher(self.app, self.repository)
        self.metrics = Metrics()
        self.reconciler = Reconciler(self.repository, self.dispatcher, self.settings, metrics=self.metrics)

    def submit(self, count: int, *, priority: int = DEFAULT_PRIORITY, key: str | None = None) -> JobRecord:
        job = NewJob(model=MODEL, priority=priority, idempotency_key=key)
        sources = (Source(source=f"{number}.png") for number in range(count))
        return submit_job(self.repository, self.dispatcher, job, sources)

    def messages(self, priority: int = DEFAULT_PRIORITY) -> list[list[int]]:
        """The item ids of each message that waits, the next one first."""
        name = queue_name(MODEL) + (f"\x06\x16{message_priority(priority)}" if message_priority(priority) else "")
        with self.valkey.client() as client:
            return [_item_ids(raw) for raw in reversed(client.lrange(name, 0, -1))]

    def claim(self, item_ids: list[int], *, lease_seconds: float = 60, suspects: bool = False) -> list[int]:
        items = self.repository.claim(item_ids, worker="w", lease_seconds=lease_seconds, suspects=suspects)
        return [item.id for item in items]

    def let_time_pass(self, seconds: float) -> None:
        """Move every time that the rows hold into the past."""
        columns = ("dispatched_at", "lease_expires_at", "not_before")
        earlier = ", ".join(f"{column} = {column} - interval '{seconds} seconds'" for column in columns)
        with transaction(self.engine) as connection:
            connection.execute(sqlalchemy.text(f"UPDATE items SET {earlier}"))

    def close(self) -> None:
        self.app.close()
        self.repository.close()


def _item_ids(raw: bytes) -> list[int]:
    message = loads(raw)
    body = loads(base64.b64decode(message["body"]))
    item_ids: list[int] = body[0][0]
    return item_ids


MakeQueue = Callable[..., Queue]


@pytest.fixture
def make_queue(database_url: str) -> Iterator[MakeQueue]:
    queues = []

    def make(valkey: Valkey, **settings: object) -> Queue:
        queues.append(Queue(database_url, valkey.url, valkey, **settings))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()


@pytest.fixture
def empty_valkey(valkey: Valkey) -> Valkey:
    valkey.flush()
    return valkey


@pytest.fixture
def queue(make_queue: MakeQueue, empty_valkey: Valkey) -> Queue:
    return make_queue(empty_valkey)


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    yield from running(Valkey)


def test_a_job_is_in_the_broker_when_it_is_accepted(queue: Queue) -> None:
    job = queue.submit(10)
    assert queue.messages() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert (job.progress.total, job.progress.state) == (10, JobState.QUEUED)


def test_a_job_is_accepted_while_the_broker_is_away_and_sent_when_it_is_back(
    make_queue: MakeQueue, own_valkey: Valkey
) -> None:
    queue = make_queue(own_valkey)
    own_valkey.kill()
    job = queue.submit(5)
    assert job.progress.queued == 5
    with pytest.raises(BrokerUnavailable):
        queue.reconciler.run_once()
    own_valkey.start()
    queue.reconciler.run_once()
    assert queue.messages() == [[1, 2, 3, 4], [5]]


def test_a_broker_that_hangs_holds_up_no_submission_for_long(make_queue: MakeQueue, own_valkey: Valkey) -> None:
    queue = make_queue(own_valkey)
    own_valkey.pause()
    assert queue.submit(5).progress.queued == 5
    own_valkey.resume()
    queue.reconciler.run_once()
    assert {item for message in queue.messages() for item in message} == {1, 2, 3, 4, 5}


def test_the_same_submission_again_is_the_same_job(queue: Queue) -> None:
    first = queue.submit(3, key="monday")
    assert queue.submit(3, key="monday").id == first.id
    with pytest.raises(IdempotencyConflict):
        queue.submit(3, key="monday", priority=9)
    assert queue.messages() == [[1, 2, 3]]


def test_a_submission_that_was_killed_in_the_middle_is_gone_on_with(queue: Queue) -> None:
    begun, _ = queue.repository.create_job(NewJob(model=MODEL, idempotency_key="monday"))
    queue.repository.add_items(begun.id, [Source(source=f"{number}.png") for number in range(5)])
    job = queue.submit(12, key="monday")
    assert (job.id, job.progress.total, job.progress.state) == (begun.id, 12, JobState.QUEUED)
    assert [item.source for item in queue.repository.list_items(job.id)] == [f"{number}.png" for number in range(12)]


def test_a_submission_that_breaks_off_leaves_nothing_to_do(queue: Queue) -> None:
    def sources() -> Iterator[Source]:
        yield from (Source(source=f"{number}.png") for number in range(20_000))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        submit_job(queue.repository, queue.dispatcher, NewJob(model=MODEL), sources())
    (job,) = queue.repository.list_jobs()
    assert (job.progress.state, job.progress.queued) == (JobState.CANCELLED, 0)
    assert queue.claim(queue.messages()[0]) == []


def test_the_broker_holds_a_window_and_the_database_the_queue(make_queue: MakeQueue, empty_valkey: Valkey) -> None:
    queue = make_queue(empty_valkey, outstanding_messages_per_queue=2)
    queue.submit(20)
    assert queue.messages() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    queue.claim([1, 2, 3, 4])
    queue.reconciler.run_once()
    assert queue.messages()[2:] == [[9, 10, 11, 12]]


def test_a_full_window_keeps_out_nothing_that_is_more_urgent(make_queue: MakeQueue, empty_valkey: Valkey) -> None:
    queue = make_queue(empty_valkey, outstanding_messages_per_queue=1)
    queue.submit(12, priority=2)
    queue.submit(8, priority=7)
    assert queue.messages(priority=7) == [[13, 14, 15, 16]]
    assert queue.messages(priority=2) == [[1, 2, 3, 4]]


def test_messages_that_the_broker_forgot_are_sent_again(queue: Queue) -> None:
    queue.submit(6)
    queue.valkey.flush()
    queue.reconciler.run_once()
    assert queue.messages() == []
    queue.let_time_pass(2 * queue.settings.reconcile_interval_seconds)
    queue.reconciler.run_once()
    assert queue.messages() == [[1, 2, 3, 4], [5, 6]]


def test_messages_that_wait_for_long_behind_others_are_not_doubled(make_queue: MakeQueue, empty_valkey: Valkey) -> None:
    queue = make_queue(empty_valkey, outstanding_messages_per_queue=2)
    queue.submit(8)
    for _ in range(3):
        queue.let_time_pass(queue.settings.redeliver_after_seconds)
        queue.reconciler.run_once()
    assert queue.messages() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_message_lost_among_others_is_sent_again_when_it_is_old(queue: Queue) -> None:
    queue.submit(8)
    with queue.valkey.client() as client:
        client.rpop(f"{queue_name(MODEL)}\x06\x16{message_priority(DEFAULT_PRIORITY)}")
    assert queue.messages() == [[5, 6, 7, 8]]
    queue.let_time_pass(queue.settings.redeliver_after_seconds)
    queue.reconciler.run_once()
    assert [1, 2, 3, 4] in queue.messages()


def test_a_dead_workers_items_come_back_one_by_one_and_are_claimed_by_no_older_message(queue: Queue) -> None:
    queue.submit(3)
    (message,) = queue.messages()
    queue.claim(message, lease_seconds=60)
    queue.valkey.flush()
    queue.let_time_pass(61)
    queue.reconciler.run_once()
    assert queue.messages() == [[1], [2], [3]]
    assert queue.claim(message) == []
    assert queue.claim([2], suspects=True) == [2]


def test_reconciling_shows_the_queue(queue: Queue) -> None:
    queue.submit(9)
    assert not queue.reconciler.messages_wait
    queue.reconciler.run_once()
    assert queue.reconciler.messages_wait
    assert queue.metrics.registry.get_sample_value("glm4v_queue_items", {"state": "dispatched"}) == 9


def test_a_submission_of_any_length_is_stored_as_it_is_read(queue: Queue) -> None:
    def sources() -> Iterator[Source]:
        for number in range(30_000):
            if number == 25_000:
                (job,) = queue.repository.list_jobs()
                assert job.progress.total == 20_000
                assert queue.messages()[0] == [1, 2, 3, 4]
            yield Source(source=f"{number}.png")

    assert submit_job(queue.repository, queue.dispatcher, NewJob(model=MODEL), sources()).progress.total == 30_000
