from __future__ import annotations

from sqlalchemy import Engine, text

from glm4v_client.states import ItemState, JobState
from tests.repositories import (
    LEASE,
    MODEL,
    age,
    claim_all,
    item_ids,
    make_job,
    reconcile,
    states,
    succeeded,
)
from worker.records import Reconciled, Released, Renewal, Retry
from worker.repository import Repository


class TestClaims:
    def test_a_claim_counts_the_attempt_before_any_work(self, repository: Repository):
        job = make_job(repository, 2)
        items = claim_all(repository, job)
        assert [(item.attempt, item.suspect, item.position) for item in items] == [(1, False, 0), (1, False, 1)]
        assert repository.get_job(job.id).progress.running == 2
        assert repository.get_job(job.id).progress.started_at is not None
        assert repository.get_item(items[0].id).attempt == 1

    def test_an_item_is_claimed_once(self, repository: Repository):
        job = make_job(repository, 2)
        assert len(claim_all(repository, job)) == 2
        assert claim_all(repository, job) == []

    def test_what_is_not_there_cannot_be_claimed(self, repository: Repository):
        assert repository.claim([], worker="w", lease_seconds=LEASE) == []
        assert repository.claim([987_654], worker="w", lease_seconds=LEASE) == []

    def test_an_item_that_is_not_due_cannot_be_claimed(self, repository: Repository):
        job = make_job(repository, 1)
        (item,) = claim_all(repository, job)
        repository.record([Retry(item=item, code="c", message="m", delay_seconds=600)])
        assert claim_all(repository, job) == []
        assert repository.get_item(item.id).not_before is not None

    def test_a_cancelled_jobs_item_cannot_be_claimed(self, repository: Repository):
        job = make_job(repository, 1)
        repository.cancel_job(job.id)
        assert claim_all(repository, job) == []

    def test_renewal_tells_what_is_still_held_and_what_was_cancelled(self, repository: Repository):
        kept, cancelled, lost = (make_job(repository, 1) for _ in range(3))
        items = [claim_all(repository, job)[0] for job in (kept, cancelled, lost)]
        repository.cancel_job(cancelled.id)
        repository.record([Released(item=items[2])])
        claim_all(repository, lost, worker="another")
        assert repository.renew(items, lease_seconds=LEASE) == Renewal(
            held=frozenset({items[0].id, items[1].id}), cancelled=frozenset({items[1].id})
        )

    def test_a_renewed_lease_lasts_longer(self, repository: Repository):
        job = make_job(repository, 1)
        items = repository.claim(item_ids(repository, job), worker="w", lease_seconds=-1)
        repository.renew(items, lease_seconds=LEASE)
        assert reconcile(repository).suspects == 0
        repository.renew(items, lease_seconds=-1)
        assert reconcile(repository).suspects == 1


class TestDispatch:
    def test_priority_comes_first_then_age(self, repository: Repository):
        low, high, same = (make_job(repository, 2, priority=priority) for priority in (1, 9, 9))
        order = [item.id for item in repository.dispatch(MODEL, window_items=100)]
        assert order == [*item_ids(repository, high), *item_ids(repository, same), *item_ids(repository, low)]

    def test_the_window_bounds_what_is_sent_and_not_claimed(self, repository: Repository):
        job = make_job(repository, 10)
        first = repository.dispatch(MODEL, window_items=4)
        assert (len(first), repository.dispatch(MODEL, window_items=4)) == (4, [])
        repository.claim([item.id for item in first[:3]], worker="w", lease_seconds=LEASE)
        assert len(repository.dispatch(MODEL, window_items=4)) == 3
        assert len(repository.dispatch(MODEL, window_items=100, limit=2)) == 2
        assert repository.get_job(job.id).progress.queued == 7

    def test_a_window_full_of_what_can_wait_keeps_out_nothing_that_cannot(self, repository: Repository):
        make_job(repository, 5, priority=1)
        assert len(repository.dispatch(MODEL, window_items=3)) == 3
        urgent = make_job(repository, 5, priority=9)
        assert [item.id for item in repository.dispatch(MODEL, window_items=3)] == item_ids(repository, urgent)[:3]
        assert repository.dispatch(MODEL, window_items=3) == []

    def test_each_model_has_its_own_queue(self, repository: Repository):
        make_job(repository, 3, model="one")
        make_job(repository, 2, model="two")
        assert len(repository.dispatch("one", window_items=3)) == 3
        assert len(repository.dispatch("two", window_items=3)) == 2
        assert repository.dispatch("three", window_items=3) == []

    def test_what_could_not_be_sent_is_sent_later(self, repository: Repository):
        make_job(repository, 2)
        ids = [item.id for item in repository.dispatch(MODEL, window_items=9)]
        repository.undispatch(ids)
        assert [item.id for item in repository.dispatch(MODEL, window_items=9)] == ids

    def test_a_message_that_nobody_claims_is_sent_again(self, repository: Repository):
        make_job(repository, 2)
        repository.dispatch(MODEL, window_items=9)
        assert reconcile(repository).redelivered == 0
        assert reconcile(repository, **{MODEL: 0}).redelivered == 2
        assert len(repository.dispatch(MODEL, window_items=9)) == 2

    def test_depths_tell_what_waits_and_for_how_long(self, repository: Repository, engine: Engine):
        assert repository.queue_depths() == []
        job = make_job(repository, 5)
        make_job(repository, 1, model="another")
        age(engine, "items", "created_at", 100)
        repository.dispatch(MODEL, window_items=2)
        claim = repository.claim(item_ids(repository, job)[:1], worker="w", lease_seconds=LEASE)
        another, ours = repository.queue_depths()
        assert (another.model, another.queued, another.dispatched, another.running) == ("another", 1, 0, 0)
        assert (ours.model, ours.queued, ours.dispatched, ours.running) == (MODEL, 4, 1, 1)
        assert ours.oldest_seconds is not None
        assert 99 < ours.oldest_seconds < 160
        repository.cancel_job(job.id)
        assert repository.queue_depths()[1].oldest_seconds is None
        repository.record([Released(item=claim[0])])
        assert [depth.model for depth in repository.queue_depths()] == ["another"]


class TestReconciliation:
    def test_items_of_a_silent_worker_come_back_as_suspects(self, repository: Repository):
        job = make_job(repository, 2)
        claim_all(repository, job)
        assert repository.expire_leases() == 2
        assert reconcile(repository) == Reconciled(due=0, suspects=2, lost=0, cancelled=0, redelivered=0)
        assert all(item.suspect for item in repository.dispatch(MODEL, window_items=9))
        assert [(item.suspect, item.attempt) for item in claim_all(repository, job)] == [(True, 2), (True, 2)]

    def test_a_suspect_waits_for_a_message_of_its_own(self, repository: Repository):
        job = make_job(repository, 2)
        ids = item_ids(repository, job)
        repository.claim(ids[:1], worker="w", lease_seconds=LEASE)
        repository.expire_leases()
        reconcile(repository)
        beside_others = repository.claim(ids, worker="w", lease_seconds=LEASE, suspects=False)
        assert [item.id for item in beside_others] == ids[1:]
        assert [item.id for item in repository.claim(ids, worker="w", lease_seconds=LEASE)] == ids[:1]

    def test_a_suspect_that_is_given_back_stays_one_and_a_retried_one_does_not(self, repository: Repository):
        job = make_job(repository, 2)
        claim_all(repository, job)
        repository.expire_leases()
        reconcile(repository)
        given_back, retried = claim_all(repository, job)
        repository.record([Released(item=given_back), Retry(item=retried, code="c", message="m", delay_seconds=-1)])
        assert [item.suspect for item in claim_all(repository, job)] == [True, False]

    def test_an_item_that_kills_its_workers_fails_and_its_neighbours_go_on(self, repository: Repository):
        job = make_job(repository, 2)
        for attempt in (1, 2, 3):
            killer, *neighbour = claim_all(repository, job)
            assert killer.attempt == attempt
            repository.record([succeeded(item) for item in neighbour])
            repository.expire_leases()
            done = reconcile(repository, max_attempts=3)
            assert (done.suspects, done.lost) == ((1, 0) if attempt < 3 else (0, 1))
        lost, neighbour = repository.list_items(job.id)
        assert (lost.state, lost.error_code, lost.attempt) == (ItemState.FAILED, "worker_lost", 3)
        assert neighbour.state is ItemState.SUCCEEDED
        assert repository.get_job(job.id).progress.state is JobState.FINISHED

    def test_a_live_lease_is_left_alone(self, repository: Repository):
        job = make_job(repository, 2)
        claim_all(repository, job)
        assert reconcile(repository) == Reconciled(due=0, suspects=0, lost=0, cancelled=0, redelivered=0)
        assert states(repository, job) == [ItemState.RUNNING, ItemState.RUNNING]

    def test_a_cancellation_that_was_interrupted_is_finished(self, repository: Repository, engine: Engine):
        job = make_job(repository, 3)
        with engine.begin() as connection:
            connection.execute(text("UPDATE jobs SET cancelled_at = created_at"))
        assert claim_all(repository, job) == []
        assert reconcile(repository).cancelled == 3
        assert states(repository, job) == [ItemState.CANCELLED] * 3
