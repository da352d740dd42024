"""Random sequences of everything that workers, producers and failures do to the queue."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from tests.repositories import LEASE, MODEL, check_counters, embedding, succeeded
from worker.database import create_engine, migrate
from worker.errors import JobCancelled
from worker.records import ClaimedItem, Failed, ItemState, JobRecord, NewJob, Released, Retry, Source, Succeeded
from worker.repository import Repository

MAX_ATTEMPTS = 3


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("states") / "template.db"
    migrate(f"sqlite:///{path}")
    return path.read_bytes()


def test_any_sequence_keeps_the_promises(template: bytes):
    class Machine(QueueMachine):
        database = template

    run = Machine.TestCase
    run.settings = settings(
        max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run().runTest()


class QueueMachine(RuleBasedStateMachine):
    """Terminal states stay, counters equal rows, attempts are bounded, and only the last claim's result counts."""

    database = b""
    jobs: Bundle[JobRecord] = Bundle("jobs")
    claims: Bundle[ClaimedItem] = Bundle("claims")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "jobs.db"
        path.write_bytes(self.database)
        self.engine = create_engine(f"sqlite:///{path}")
        self.repository = Repository(self.engine)
        #: The claim that holds each running item.
        self.holders: dict[int, ClaimedItem] = {}
        self.terminal: dict[int, ItemState] = {}
        self.made: list[JobRecord] = []

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    @rule(target=jobs, count=st.integers(0, 4), priority=st.integers(0, 9), close=st.booleans())
    def submit(self, count: int, priority: int, close: bool) -> JobRecord:
        sources = [Source(source=f"s{number}") for number in range(count)]
        job, _ = self.repository.create_job(NewJob(model=MODEL, priority=priority), sources, close=close)
        self.made.append(job)
        return job

    @rule(job=jobs)
    def close(self, job: JobRecord) -> None:
        self.repository.close_job(job.id)

    @rule(target=claims, limit=st.integers(1, 8))
    def deliver(self, limit: int):
        """A message arrives at a worker."""
        ids = [item.id for item in self.repository.dispatch(MODEL, window_items=10, limit=limit)]
        return self._claim(ids)

    @rule(target=claims, ids=st.lists(st.integers(1, 12), max_size=5, unique=True))
    def deliver_twice(self, ids: list[int]):
        """A message that was delivered before, or is about items that are done, arrives again."""
        return self._claim(ids)

    def _claim(self, ids: list[int]):
        items = self.repository.claim(ids, worker="w", lease_seconds=LEASE)
        for item in items:
            assert item.id not in self.holders
            assert 1 <= item.attempt <= MAX_ATTEMPTS
            self.holders[item.id] = item
        return multiple(*items)

    @rule(item=claims)
    def renew(self, item: ClaimedItem) -> None:
        assert (item.id in self.repository.renew([item], lease_seconds=LEASE).held) == self._holds(item)

    @rule(item=claims, content=st.sampled_from("abc"), reuse=st.booleans())
    def succeed(self, item: ClaimedItem, content: str, reuse: bool) -> None:
        found = self.repository.find_embedding(content * 64, "f" * 64) if reuse else None
        outcome = Succeeded(item=item, embedding=found) if found else succeeded(item, content)
        self._record(outcome, ItemState.SUCCEEDED)
        stored = self.repository.find_embedding(content * 64, "f" * 64)
        assert stored is None or self.repository.known_objects([stored.object_key])

    @rule(item=claims)
    def succeed_with_what_is_no_longer_there(self, item: ClaimedItem) -> None:
        gone = embedding("e")
        holds = self._holds(item)
        outcome = Succeeded(item=item, embedding=type(gone)(**{**_fields(gone), "id": 999}))
        assert item.id not in self.repository.record([outcome]).accepted or not holds
        if holds:
            del self.holders[item.id]

    @rule(item=claims)
    def fail(self, item: ClaimedItem) -> None:
        self._record(Failed(item=item, code="c", message="m"), ItemState.FAILED)

    @rule(item=claims, delay=st.sampled_from([-1.0, 3600.0]))
    def retry(self, item: ClaimedItem, delay: float) -> None:
        if item.attempt < MAX_ATTEMPTS:
            self._record(Retry(item=item, code="c", message="m", delay_seconds=delay), ItemState.QUEUED)

    @rule(item=claims)
    def give_back(self, item: ClaimedItem) -> None:
        self._record(Released(item=item), ItemState.QUEUED)

    def _record(self, outcome: Succeeded | Failed | Retry | Released, state: ItemState) -> None:
        holds = self._holds(outcome.item)
        before = self.repository.get_item(outcome.item.id)
        accepted = outcome.item.id in self.repository.record([outcome]).accepted
        after = self.repository.get_item(outcome.item.id)
        if not holds:
            assert after == before
            return
        del self.holders[outcome.item.id]
        assert accepted
        cancelled = self.repository.get_job(after.job_id).cancelled_at is not None
        assert after.state is (ItemState.CANCELLED if cancelled and state is ItemState.QUEUED else state)

    @rule()
    def workers_die(self) -> None:
        self.repository.expire_leases()
        self.repository.reconcile(max_attempts=MAX_ATTEMPTS, redeliver_after={})
        self.holders.clear()

    @rule(redeliver=st.booleans())
    def reconcile(self, redeliver: bool) -> None:
        done = self.repository.reconcile(max_attempts=MAX_ATTEMPTS, redeliver_after={MODEL: 0} if redeliver else {})
        assert done is not None
        assert (done.suspects, done.lost, done.cancelled) == (0, 0, 0)

    @rule(job=jobs)
    def cancel(self, job: JobRecord) -> None:
        self.repository.cancel_job(job.id)

    @rule(job=jobs)
    def retry_failed(self, job: JobRecord) -> None:
        try:
            self.repository.retry_failed(job.id)
        except JobCancelled:
            return
        for item in self.repository.list_items(job.id):
            assert item.state is not ItemState.FAILED
            if self.terminal.get(item.id) is ItemState.FAILED:
                del self.terminal[item.id]

    @rule()
    def retain(self) -> None:
        retired = self.repository.retire_embeddings(older_than_seconds=0)
        self.repository.remove_retired([one.stored_id for one in retired])

    def _holds(self, item: ClaimedItem) -> bool:
        return self.holders.get(item.id) == item

    @invariant()
    def counters_equal_rows(self) -> None:
        if hasattr(self, "engine"):
            check_counters(self.engine)

    @invariant()
    def terminal_states_stay_and_held_items_run(self) -> None:
        for job in getattr(self, "made", []):
            for item in self.repository.list_items(job.id):
                assert (item.state is ItemState.RUNNING) == (item.id in self.holders)
                if item.id in self.terminal:
                    assert item.state is self.terminal[item.id]
                elif item.finished_at is not None:
                    self.terminal[item.id] = item.state


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in type(record).__slots__}
