from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.repositories import age, claim_all, make_job, reconcile, succeeded
from worker.errors import IdempotencyConflict, JobNotFound
from worker.records import DueDelivery, Failed, JobRecord, WebhookRecord, WebhookState
from worker.repository import Repository
from worker.uuid7 import uuid7

URL = "https://receiver.example/hook?token=1"


def claim(repository: Repository) -> list[DueDelivery]:
    return repository.webhooks.claim(lease_seconds=60, limit=10)


def webhook(repository: Repository, job: JobRecord) -> WebhookRecord:
    found = repository.webhooks.get(job.id)
    assert found is not None
    return found


@pytest.fixture
def ended(repository: Repository) -> JobRecord:
    """A job with one item, which has failed."""
    job = make_job(repository, 1, webhook=URL)
    (item,) = claim_all(repository, job)
    repository.record([Failed(item=item, code="not_found", message="m")])
    return repository.get_job(job.id)


def test_a_webhook_is_due_once_its_job_has_ended(repository: Repository):
    make_job(repository, 0)
    job = make_job(repository, 1, webhook=URL)
    assert claim(repository) == []
    assert webhook(repository, job) == WebhookRecord(
        url=URL, state=WebhookState.WAITING, next_attempt_at=None, deliveries=()
    )
    (item,) = claim_all(repository, job)
    repository.record([succeeded(item)])
    (due,) = claim(repository)
    assert (due.url, due.attempt, due.job.id) == (URL, 1, job.id)
    assert due.ended_at == due.job.progress.finished_at == repository.get_job(job.id).progress.finished_at
    assert due.job.progress.succeeded == 1
    assert claim(repository) == []


def test_a_cancelled_job_has_ended_when_nothing_of_it_runs(repository: Repository):
    job = make_job(repository, 2, webhook=URL)
    claim_all(repository, job)
    repository.cancel_job(job.id)
    assert claim(repository) == []
    repository.expire_leases()
    reconcile(repository)
    assert [due.job.id for due in claim(repository)] == [job.id]


def test_what_was_delivered_is_not_sent_again(repository: Repository, engine: Engine, ended: JobRecord):
    (due,) = claim(repository)
    repository.webhooks.record(due, seconds=0.25, status=204)
    age(engine, "jobs", "webhook_due_at", 3600)
    assert claim(repository) == []
    told = webhook(repository, ended)
    assert (told.state, told.next_attempt_at) == (WebhookState.DELIVERED, None)
    ((attempt, seconds, status, error),) = [
        (one.attempt, one.seconds, one.status, one.error) for one in told.deliveries
    ]
    assert (attempt, seconds, status, error) == (1, 0.25, 204, None)


def test_a_failed_attempt_is_repeated_when_its_time_has_come(repository: Repository, engine: Engine, ended: JobRecord):
    (first,) = claim(repository)
    repository.webhooks.record(first, seconds=1, status=500, error="it answered 500", retry_seconds=600)
    assert claim(repository) == []
    told = webhook(repository, ended)
    assert told.state is WebhookState.WAITING
    assert told.next_attempt_at is not None
    assert 590 < (told.next_attempt_at - told.deliveries[0].sent_at).total_seconds() < 610
    age(engine, "jobs", "webhook_due_at", 600)
    (second,) = claim(repository)
    assert (second.attempt, second.ended_at, second.id != first.id) == (2, first.ended_at, True)
    repository.webhooks.record(second, seconds=1, error="it hangs")
    told = webhook(repository, ended)
    assert (told.state, [one.error for one in told.deliveries]) == (
        WebhookState.FAILED,
        ["it hangs", "it answered 500"],
    )
    age(engine, "jobs", "finished_at", 3600)
    assert len(claim(repository)) == 1, "an end at another time is another end"


def test_an_attempt_whose_sender_died_is_made_again(repository: Repository, engine: Engine, ended: JobRecord):
    (lost,) = claim(repository)
    age(engine, "jobs", "webhook_due_at", 61)
    (again,) = claim(repository)
    assert again.attempt == 2
    (shown,) = webhook(repository, ended).deliveries
    assert (shown.attempt, shown.seconds, shown.status) == (1, 60, None)
    assert "ended before" in str(shown.error)
    # It was frozen, and wakes up: its failure does not bring forward or put off the attempt that is under way.
    repository.webhooks.record(lost, seconds=99, error="late", retry_seconds=0)
    assert claim(repository) == []
    repository.webhooks.record(again, seconds=1, status=200)
    assert webhook(repository, ended).state is WebhookState.DELIVERED


def test_a_job_that_ends_again_is_told_again_from_the_first_attempt(
    repository: Repository, engine: Engine, ended: JobRecord
):
    (due,) = claim(repository)
    repository.retry_failed(ended.id)
    assert claim(repository) == []
    # The answer arrives while the job is under way again: it was about the former end.
    repository.webhooks.record(due, seconds=1, status=200)
    assert webhook(repository, ended).state is WebhookState.WAITING
    (item,) = claim_all(repository, ended)
    repository.record([succeeded(item)])
    (again,) = claim(repository)
    assert (again.attempt, again.ended_at > due.ended_at, again.job.progress.succeeded) == (1, True, 1)


def test_a_job_that_ends_again_does_not_wait_for_the_former_ends_next_attempt(repository: Repository, ended: JobRecord):
    (due,) = claim(repository)
    repository.retry_failed(ended.id)
    repository.webhooks.record(due, seconds=1, error="it hangs", retry_seconds=3600)
    repository.cancel_job(ended.id)
    (again,) = claim(repository)
    assert again.attempt == 1


def test_a_deleted_jobs_webhook_is_forgotten(repository: Repository, ended: JobRecord):
    (due,) = claim(repository)
    repository.delete_job(ended.id)
    repository.webhooks.record(due, seconds=1, error="it hangs", retry_seconds=0)
    assert claim(repository) == []
    with pytest.raises(JobNotFound):
        repository.webhooks.get(ended.id)


def test_a_job_without_a_webhook_has_none(repository: Repository):
    assert repository.webhooks.get(make_job(repository, 1).id) is None
    with pytest.raises(JobNotFound):
        repository.webhooks.get(uuid7())


def test_another_webhook_is_another_request(repository: Repository):
    job = make_job(repository, 1, webhook=URL, idempotency_key="k")
    assert job.webhook == URL
    assert make_job(repository, 1, webhook=URL, idempotency_key="k").id == job.id
    with pytest.raises(IdempotencyConflict, match="another webhook"):
        make_job(repository, 1, idempotency_key="k")
