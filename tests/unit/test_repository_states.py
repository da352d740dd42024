"""Random sequences of everything that workers, producers and failures do to the queue."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from glm4v_client.states import ItemState
from tests.repositories import LEASE, MODEL, check_counters, embedding, make_job, succeeded
from worker.database import create_engine, migrate
from worker.errors import JobCancelled
from worker.records import ClaimedItem, Failed, JobRecord, Outcome, Released, Retry, Succeeded
from worker.repository import Repository

MAX_ATTEMPTS = 3
#: Few jobs of few items, so that what happens happens to the same ones.
MOST_JOBS = 3
OUTCOMES = ("succeeded", "reused", "vanished", "failed", "retry", "retry later", "released")


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
        max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run().runTest()


class QueueMachine(RuleBasedStateMachine):
    """Terminal states stay, counters equal rows, attempts are bounded, and only the last claim's result counts."""

    database = b""
    jobs: Bundle[JobRecord] = Bundle("jobs")
    claims: Bundle[ClaimedItem] = Bundle("claims")

    @initialize(target=jobs)
    def start(self) -> JobRecord:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "jobs.db"
        path.write_bytes(self.database)
        self.engine = create_engine(f"sqlite:///{path}")
        self.repository = Repository(self.engine)
        #: The claim that holds each running item.
        self.holders: dict[int, ClaimedItem] = {}
        self.terminal: dict[int, ItemState] = {}
        self.made = [make_job(self.repository, 2)]
        return self.made[0]

    def teardown(self) -> None:
        check_counters(self.engine)
        self.engine.dispose()
        self.folder.cleanup()

    @precondition(lambda self: len(self.made) < MOST_JOBS)
    @rule(target=jobs, count=st.integers(0, 3), priority=st.integers(0, 9), close=st.booleans())
    def submit(self, count: int, priority: int, close: bool) -> JobRecord:
        self.made.append(make_job(self.repository, count, priority=priority, close=close))
        return self.made[-1]

    @rule(target=claims, limit=st.integers(1, 8))
    def deliver(self, limit: int):
        """A message arrives at a worker."""
        return self._claim([item.id for item in self.repository.dispatch(MODEL, window_items=10, limit=limit)])

    @rule(target=claims)
    def deliver_again(self):
        """Messages that were delivered before, or are about items that are done, arrive again."""
        return self._claim(list(range(1, 10)))

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

    @rule(item=claims, kind=st.sampled_from(OUTCOMES), content=st.sampled_from("abc"))
    def finish(self, item: ClaimedItem, kind: str, content: str) -> None:
        """A worker reports, in time or long after it lost the item."""
        outcome = self._outcome(item, kind, content)
        held = self._holds(item)
        before = self.repository.get_item(item.id)
        accepted = item.id in self.repository.record([outcome]).accepted
        after = self.repository.get_item(item.id)
        if not held:
            assert after == before
            return
        del self.holders[item.id]
        assert accepted == (kind != "vanished")
        assert after.state is self._expected(outcome, vanished=kind == "vanished")
        refunded = kind in ("released", "vanished")
        assert after.attempt == item.attempt - refunded

    def _outcome(self, item: ClaimedItem, kind: str, content: str) -> Outcome:
        found = self.repository.find_embedding(content * 64, "f" * 64)
        if kind == "reused" and found is not None:
            return Succeeded(item=item, embedding=found)
        if kind == "vanished":
            return Succeeded(item=item, embedding=replace(embedding("e"), id=999))
        if kind.startswith("retry") and item.attempt < MAX_ATTEMPTS:
            return Retry(item=item, code="c", message="m", delay_seconds=3600 if kind == "retry later" else -1)
        if kind == "released":
            return Released(item=item)
        if kind in ("succeeded", "reused"):
            return succeeded(item, content)
        return Failed(item=item, code="c", message="m")

    def _expected(self, outcome: Outcome, *, vanished: bool) -> ItemState:
        if isinstance(outcome, Failed):
            return ItemState.FAILED
        if isinstance(outcome, Succeeded) and not vanished:
            return ItemState.SUCCEEDED
        cancelled = self.repository.get_job(outcome.item.job_id).cancelled_at is not None
        return ItemState.CANCELLED if cancelled else ItemState.QUEUED

    @rule()
    def workers_die(self) -> None:
        self.repository.expire_leases()
        done = self.repository.reconcile(max_attempts=MAX_ATTEMPTS, redeliver_after={MODEL: 0})
        assert done is not None
        assert done.suspects + done.lost == len(self.holders)
        for item in self.holders.values():
            after = self.repository.get_item(item.id)
            cancelled = self.repository.get_job(item.job_id).cancelled_at is not None
            gone = ItemState.CANCELLED if cancelled else ItemState.QUEUED
            assert after.state is (gone if item.attempt < MAX_ATTEMPTS else ItemState.FAILED)
        self.holders.clear()

    @rule()
    def time_passes(self) -> None:
        done = self.repository.reconcile(max_attempts=MAX_ATTEMPTS, redeliver_after={})
        assert done is not None
        assert (done.suspects, done.lost, done.cancelled, done.redelivered) == (0, 0, 0, 0)

    @rule(job=jobs, what=st.sampled_from(["close", "cancel", "retry", "retain"]))
    def producer_acts(self, job: JobRecord, what: str) -> None:
        if what == "close":
            self.repository.close_job(job.id)
        elif what == "cancel":
            self.repository.cancel_job(job.id)
            assert ItemState.QUEUED not in {item.state for item in self.repository.list_items(job.id)}
        elif what == "retry":
            self._retry(job)
        else:
            retired = self.repository.retire_embeddings(older_than_seconds=0)
            assert retired == []

    def _retry(self, job: JobRecord) -> None:
        try:
            self.repository.retry_failed(job.id)
        except JobCancelled:
            return
        for item in self.repository.list_items(job.id):
            assert item.state is not ItemState.FAILED
            if self.terminal.get(item.id) is ItemState.FAILED:
                del self.terminal[item.id]

    def _holds(self, item: ClaimedItem) -> bool:
        return self.holders.get(item.id) == item

    @invariant()
    def terminal_states_stay_and_held_items_run(self) -> None:
        for job in getattr(self, "made", []):
            for item in self.repository.list_items(job.id):
                assert (item.state is ItemState.RUNNING) == (item.id in self.holders)
                if item.id in self.terminal:
                    assert item.state is self.terminal[item.id]
                elif item.finished_at is not None:
                    self.terminal[item.id] = item.state
