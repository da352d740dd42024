from __future__ import annotations

from collections.abc import Iterator

import pytest

from glm4v_client.states import ItemState, JobState, MediaKind
from tests.repositories import (
    LEASE,
    MODEL,
    claim_all,
    item_ids,
    make_job,
    reconcile,
    sources,
    states,
    succeeded,
)
from worker.errors import (
    IdempotencyConflict,
    ItemNotFound,
    JobCancelled,
    JobClosed,
    JobNotFound,
    PositionConflict,
)
from worker.records import Failed, NewJob, Released, Retry, Source
from worker.repository import Repository
from worker.uuid7 import uuid7


class TestJobs:
    def test_a_job_is_made_with_its_items_and_counts_them(self, repository: Repository):
        job = make_job(repository, 3, owner="ann", priority=7, options={"fps": 2.0}, labels={"set": "a"})
        assert (job.owner, job.model, job.priority) == ("ann", MODEL, 7)
        assert (job.options, job.labels) == ({"fps": 2.0}, {"set": "a"})
        assert (job.progress.state, job.progress.total, job.progress.queued) == (JobState.QUEUED, 3, 3)
        assert [item.position for item in repository.list_items(job.id)] == [0, 1, 2]
        assert job.progress.created_at.tzinfo is not None
        assert job.progress.created_at <= job.progress.measured_at

    def test_an_items_own_options_win_over_the_jobs(self, repository: Repository):
        job, _ = repository.create_job(
            NewJob(model=MODEL, options={"fps": 2.0, "max_frames": 8}),
            [Source(source="a", kind=MediaKind.VIDEO), Source(source="b", options={"fps": 1.0})],
        )
        first, second = claim_all(repository, job)
        assert (first.kind, first.options) == (MediaKind.VIDEO, {"fps": 2.0, "max_frames": 8})
        assert (second.kind, second.options) == (MediaKind.AUTO, {"fps": 1.0, "max_frames": 8})

    def test_an_open_job_takes_more_items_from_a_stream_until_it_is_closed(self, repository: Repository):
        job = make_job(repository, 2, close=False)
        assert job.progress.state is JobState.OPEN
        assert repository.add_items(job.id, iter(sources(25_001))) == 25_001
        repository.close_job(job.id)
        assert repository.get_job(job.id).progress.total == 25_003
        last = repository.list_items(job.id, after=item_ids(repository, job)[9_999], limit=20_000)[-1]
        assert last.position == 25_002
        with pytest.raises(JobClosed):
            repository.add_items(job.id, sources(1))

    def test_items_that_are_there_already_are_not_added_again(self, repository: Repository):
        job = make_job(repository, 0, close=False)
        assert repository.add_items(job.id, sources(3), first_position=0) == 3
        assert repository.add_items(job.id, sources(3), first_position=0) == 0
        # A part of it had arrived.
        assert repository.add_items(job.id, [Source(source=name) for name in ("b", "c", "d")], first_position=2) == 2
        assert repository.add_items(job.id, [], first_position=5) == 0
        items = repository.list_items(job.id)
        assert [item.position for item in items] == [0, 1, 2, 3, 4]
        assert [item.source for item in items][3:] == ["c", "d"]

    def test_a_gap_between_items_is_refused(self, repository: Repository):
        job = make_job(repository, 2, close=False)
        with pytest.raises(PositionConflict, match=r"has 2 items.*position 3"):
            repository.add_items(job.id, sources(1), first_position=3)
        assert repository.get_job(job.id).progress.total == 2

    def test_the_last_items_may_be_repeated_after_they_closed_the_job(self, repository: Repository):
        job = make_job(repository, 3)
        assert repository.add_items(job.id, sources(2), first_position=1) == 0
        with pytest.raises(JobClosed):
            repository.add_items(job.id, sources(2), first_position=2)

    def test_a_cancelled_job_takes_no_repetition_either(self, repository: Repository):
        job = make_job(repository, 3)
        repository.cancel_job(job.id)
        with pytest.raises(JobCancelled):
            repository.add_items(job.id, sources(3), first_position=0)

    def test_a_repetition_of_more_than_a_batch_goes_on_where_the_first_broke_off(self, repository: Repository):
        job = make_job(repository, 0, close=False)

        def breaking_off():
            yield from sources(12_000)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            repository.add_items(job.id, breaking_off(), first_position=0)
        kept = repository.get_job(job.id).progress.total
        assert kept == 10_000
        assert repository.add_items(job.id, iter(sources(25_000)), first_position=0) == 25_000 - kept
        assert repository.get_job(job.id).progress.total == 25_000

    def test_a_repeated_request_adds_nothing_to_a_job_that_has_grown(self, repository: Repository):
        new = NewJob(model=MODEL, owner="ann", idempotency_key="k")
        job, _ = repository.create_job(new, sources(2))
        repository.add_items(job.id, sources(2), first_position=2)
        again, is_new = repository.create_job(new, sources(2), close=True)
        assert (again.id, is_new, again.progress.total, again.closed_at) == (job.id, False, 4, None)

    def test_hostile_names_are_kept_as_they_are(self, repository: Repository):
        names = ["tab\tnewline\nback\\slash", "\\N", "'; DROP TABLE items; --", "日本語🙂", "%s %(x)s :name", ""]
        job, _ = repository.create_job(NewJob(model=MODEL), [Source(source=name) for name in names])
        assert [item.source for item in repository.list_items(job.id)] == names

    def test_a_job_that_never_was_is_not_found(self, repository: Repository):
        for use in (repository.get_job, repository.close_job, repository.cancel_job, repository.delete_job,
                    repository.retry_failed, lambda job_id: repository.add_items(job_id, sources(1))):  # fmt: skip
            with pytest.raises(JobNotFound, match="check its id"):
                use(uuid7())

    def test_an_empty_job_is_finished_once_it_is_closed(self, repository: Repository):
        job = make_job(repository, 0, close=False)
        assert job.progress.finished_at is None
        repository.close_job(job.id)
        assert repository.get_job(job.id).progress.state is JobState.FINISHED

    def test_the_same_idempotency_key_is_the_same_job(self, repository: Repository):
        job = make_job(repository, 2, owner="ann", idempotency_key="k")
        again, is_new = repository.create_job(NewJob(model=MODEL, owner="ann", idempotency_key="k"), sources(2))
        assert (again.id, is_new, again.progress.total) == (job.id, False, 2)

    def test_the_same_key_of_another_owner_is_another_job(self, repository: Repository):
        jobs = {make_job(repository, 1, owner=owner, idempotency_key="k").id for owner in ("ann", "ben")}
        jobs |= {make_job(repository, 1, owner="ann").id for _ in range(2)}
        assert len(jobs) == 4

    def test_a_key_that_belongs_to_another_request_is_refused(self, repository: Repository):
        make_job(repository, 1, idempotency_key="k")
        with pytest.raises(IdempotencyConflict, match="another priority and labels"):
            make_job(repository, 1, idempotency_key="k", priority=9, labels={"a": "b"})

    def test_a_stream_that_breaks_leaves_no_job(self, repository: Repository):
        def broken() -> Iterator[Source]:
            yield from sources(10_001)
            raise RuntimeError("the producer's own")

        with pytest.raises(RuntimeError, match="the producer's own"):
            repository.create_job(NewJob(model=MODEL), broken())
        assert repository.list_jobs() == []

    def test_deleting_a_job_deletes_its_items(self, repository: Repository):
        job, other = make_job(repository, 3), make_job(repository, 2)
        running = claim_all(repository, job)
        repository.delete_job(job.id)
        with pytest.raises(JobNotFound):
            repository.get_job(job.id)
        assert [found.id for found in repository.list_jobs()] == [other.id]
        assert repository.record([succeeded(running[0])]).accepted == frozenset()


class TestCancellation:
    def test_queued_items_stop_at_once_and_running_ones_when_they_are_given_back(self, repository: Repository):
        job = make_job(repository, 4)
        ids = item_ids(repository, job)
        items = repository.claim(ids[:3], worker="w", lease_seconds=LEASE)
        repository.cancel_job(job.id)
        assert states(repository, job) == ["running", "running", "running", "cancelled"]
        assert repository.get_job(job.id).progress.finished_at is None
        repository.record(
            [
                Released(item=items[0]),
                Retry(item=items[1], code="c", message="m", delay_seconds=60),
                succeeded(items[2]),
            ]
        )
        assert states(repository, job) == [
            ItemState.CANCELLED,
            ItemState.CANCELLED,
            ItemState.SUCCEEDED,
            ItemState.CANCELLED,
        ]
        progress = repository.get_job(job.id).progress
        assert (progress.state, progress.done, progress.cancelled) == (JobState.CANCELLED, 4, 3)
        assert progress.finished_at is not None

    def test_an_expired_lease_of_a_cancelled_job_is_cancelled(self, repository: Repository):
        job = make_job(repository, 1)
        claim_all(repository, job)
        repository.cancel_job(job.id)
        repository.expire_leases()
        reconcile(repository)
        assert states(repository, job) == ["cancelled"]

    def test_cancelling_twice_changes_nothing_more(self, repository: Repository):
        job = make_job(repository, 2)
        repository.cancel_job(job.id)
        first = repository.get_job(job.id)
        repository.cancel_job(job.id)
        assert repository.get_job(job.id).cancelled_at == first.cancelled_at

    def test_a_finished_job_stays_finished(self, repository: Repository):
        job = make_job(repository, 1)
        repository.record([succeeded(claim_all(repository, job)[0])])
        repository.cancel_job(job.id)
        assert repository.get_job(job.id).progress.state is JobState.FINISHED

    def test_a_cancelled_job_takes_no_items_and_retries_none(self, repository: Repository):
        job = make_job(repository, 2, close=False)
        failing, _ = claim_all(repository, job)
        repository.record([Failed(item=failing, code="c", message="m")])
        repository.cancel_job(job.id)
        with pytest.raises(JobCancelled):
            repository.add_items(job.id, sources(1))
        with pytest.raises(JobCancelled):
            repository.retry_failed(job.id)
        with pytest.raises(JobCancelled):
            repository.retry_item(failing.id)


class TestRetry:
    @pytest.fixture
    def failed_job(self, repository: Repository):
        job = make_job(repository, 4)
        items = claim_all(repository, job)
        codes = ["not_found", "not_found", "too_large"]
        failures = [Failed(item=item, code=code, message="m") for item, code in zip(items, codes, strict=False)]
        repository.record([*failures, succeeded(items[3])])
        return job

    def test_failed_items_are_queued_again_with_all_their_attempts(self, repository: Repository, failed_job):
        assert repository.get_job(failed_job.id).progress.state is JobState.FINISHED
        assert repository.retry_failed(failed_job.id) == 3
        assert states(repository, failed_job) == [
            ItemState.QUEUED,
            ItemState.QUEUED,
            ItemState.QUEUED,
            ItemState.SUCCEEDED,
        ]
        assert repository.get_job(failed_job.id).progress.state is JobState.RUNNING
        assert [item.attempt for item in claim_all(repository, failed_job)] == [1, 1, 1]

    def test_only_those_of_one_code(self, repository: Repository, failed_job):
        assert repository.retry_failed(failed_job.id, error_code="too_large") == 1
        assert states(repository, failed_job) == [
            ItemState.FAILED,
            ItemState.FAILED,
            ItemState.QUEUED,
            ItemState.SUCCEEDED,
        ]

    def test_one_item(self, repository: Repository, failed_job):
        ids = item_ids(repository, failed_job)
        assert repository.retry_item(ids[0]) is True
        assert repository.retry_item(ids[0]) is False
        assert repository.retry_item(ids[3]) is False
        assert states(repository, failed_job) == [
            ItemState.QUEUED,
            ItemState.FAILED,
            ItemState.FAILED,
            ItemState.SUCCEEDED,
        ]
        with pytest.raises(ItemNotFound):
            repository.retry_item(987_654)
