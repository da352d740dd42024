from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest

from glm4v_client import InvalidArgument, JobFailed, JobState, NotFound, ServiceUnreachable, WaitTimeout, watching
from tests.fake_service import Cut, Dropped, FakeService, Refused

SOURCES = [f"s3://m/{position}" for position in range(5)]


def test_watching_shows_every_step_and_ends_with_the_job(client: Any, service: FakeService):
    service.pace = 1
    job = client.submit(SOURCES)

    seen = list(job.watch())

    assert [progress.counts.succeeded for progress in seen] == [0, 1, 2, 3, 4, 5]
    assert (seen[-1].state, job.state, job.counts.succeeded) == (JobState.FINISHED, JobState.FINISHED, 5)
    assert len(service.requested("GET .*/events")) == 1


@pytest.mark.parametrize("after", [0, 10, 700, 1500])
def test_a_stream_that_is_cut_anywhere_is_gone_on_with(client: Any, service: FakeService, after: int):
    service.pace = 1
    job = client.submit(SOURCES)
    service.fail("GET .*/events", Cut(after), Cut(after))

    counts = [progress.counts.succeeded for progress in job.watch()]

    assert counts == sorted(set(counts))
    assert counts[-1] == 5
    assert len(service.requested("GET .*/events")) == 3


@pytest.mark.parametrize("way", ["no such route", "a page instead", "never a whole stream"])
def test_where_there_are_no_events_the_job_is_asked_for(
    client: Any, service: FakeService, way: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "_POLL_SECONDS", 0.01)
    service.pace = 1
    job = client.submit(SOURCES)
    match way:
        case "no such route":
            service.has_events = False
        case "a page instead":
            service.fail("GET .*/events", Refused(200))
        case "never a whole stream":
            service.fail("GET .*/events", *[Dropped(after_effect=False)] * 10)

    assert [progress.counts.succeeded for progress in job.watch()] == [1, 2, 3, 4, 5]


def test_watching_a_job_that_is_gone_says_so(client: Any, service: FakeService):
    job = client.submit(SOURCES)
    job.delete()
    with pytest.raises(NotFound, match="job_not_found: What to do") as caught:
        list(job.watch())
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (404, "job_not_found", "r-17")


def test_watching_may_be_left_at_any_time(client: Any, service: FakeService):
    service.pace = 1
    job = client.submit(SOURCES)
    seen = list(itertools.islice(job.watch(), 2))
    assert [progress.counts.succeeded for progress in seen] == [0, 1]
    assert job.refresh().counts.succeeded >= 1


def test_waiting_ends_with_the_job(client: Any, service: FakeService):
    job = client.submit(SOURCES)
    assert job.wait(timeout=60).state is JobState.FINISHED
    assert job.has_ended


def test_waiting_ends_with_its_time_and_the_job_goes_on(client: Any, service: FakeService):
    service.pace = 0
    job = client.submit(SOURCES)
    with pytest.raises(WaitTimeout, match=r"0 of 5 items were done after 0\.2 s") as caught:
        job.wait(timeout=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert not service.only_job.is_cancelled


def test_items_come_page_by_page_in_their_order(client: Any, service: FakeService):
    service.page = 2
    job = client.submit([*SOURCES, "s3://m/broken"])
    job.wait()

    assert [item.source for item in job.items()] == [*SOURCES, "s3://m/broken"]
    assert len(service.requested("GET .*/items")) == 3
    (failed,) = job.items(state="failed", code="corrupt_media")
    assert (failed.position, failed.error.code, failed.grid_thw) == (5, "corrupt_media", None)
    assert list(job.items(code="not_found")) == []


def test_failures_are_told_with_their_number_codes_and_places(client: Any, service: FakeService):
    job = client.submit([f"s3://m/broken/{position}" for position in range(3)] + SOURCES)
    job.wait()

    with pytest.raises(JobFailed) as caught:
        job.raise_for_failures()

    assert caught.value.codes == {"corrupt_media": 3}
    assert [item.position for item in caught.value.examples] == [0, 1, 2]
    assert str(caught.value).splitlines() == [
        "3 of 8 items failed and 0 were cancelled (corrupt_media 3)",
        "  0: s3://m/broken/0: The file is damaged: make it anew.",
        "  1: s3://m/broken/1: The file is damaged: make it anew.",
        "  2: s3://m/broken/2: The file is damaged: make it anew.",
    ]


def test_a_job_without_failures_raises_nothing(client: Any, service: FakeService):
    job = client.submit(SOURCES)
    job.wait()
    job.raise_for_failures()


def test_failed_items_are_tried_again(client: Any, service: FakeService):
    job = client.submit(["s3://m/broken", *SOURCES])
    job.wait()
    assert job.retry_failed(code="not_found") == 0
    assert job.retry_failed() == 1
    assert job.refresh().counts.failed == 0


def test_one_failed_item_is_tried_again(client: Any, service: FakeService):
    job = client.submit(["s3://m/broken", "s3://m/a"])
    job.wait()
    failed, succeeded = job.items()
    assert (failed.retry(), succeeded.retry()) == (True, False)
    assert failed.refresh().state.value == failed.state.value == "succeeded"


def test_a_retry_that_may_have_been_done_is_not_repeated(client: Any, service: FakeService):
    job = client.submit(["s3://m/broken"])
    job.wait()
    service.fail("POST .*/retry", Dropped(after_effect=True))
    with pytest.raises(ServiceUnreachable) as caught:
        job.retry_failed()
    assert caught.value.was_sent
    assert len(service.requested("POST .*/retry")) == 1


def test_a_retry_that_certainly_was_not_done_is_repeated(client: Any, service: FakeService):
    job = client.submit(["s3://m/broken"])
    job.wait()
    service.fail("POST .*/retry", Refused(503), Refused(429, {"retry-after": "0"}))
    assert job.retry_failed() == 1


def test_cancelling_ends_a_job(client: Any, service: FakeService):
    service.pace = 2
    job = client.submit(SOURCES)
    job.refresh()
    service.fail("POST .*/cancel", Dropped(after_effect=True))

    assert job.cancel().state is JobState.CANCELLED
    assert (job.counts.succeeded, job.counts.cancelled, job.has_ended) == (2, 3, True)
    with pytest.raises(JobFailed, match="0 of 5 items failed and 3 were cancelled"):
        job.raise_for_failures()


def test_deleting_is_done_once_however_often_it_is_asked(client: Any, service: FakeService):
    job = client.submit(SOURCES)
    service.fail("DELETE", Dropped(after_effect=True))
    job.delete()
    job.delete()
    assert not service.jobs


def test_jobs_are_found_by_id_and_listed(client: Any, service: FakeService):
    service.page = 1
    jobs = [client.submit([source]) for source in SOURCES[:3]]
    assert [job.id for job in client.jobs(state="running", label=("set", "a:b"))] == [job.id for job in jobs]
    assert "state=running&label=set%3Aa%3Ab" in service.requested("GET /v1/jobs")[0]
    assert client.job(str(jobs[1].id)).id == jobs[1].id
    with pytest.raises(NotFound):
        client.job(uuid.uuid4())
    with pytest.raises(InvalidArgument, match="'cats' is not the id of a job"):
        client.job("cats")


def test_workers_and_queues_are_listed(client: Any, service: FakeService):
    assert [worker.name for worker in client.workers()] == ["w1"]
    assert [queue.queued for queue in client.queues()] == [3]
