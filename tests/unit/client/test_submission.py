from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glm4v_client import EmbedOptions, InvalidArgument, ItemRequest, ServiceFailed, ServiceUnreachable, TooManyRequests
from tests.fake_service import Dropped, FakeService, Refused


def sources_of(service: FakeService) -> list[str]:
    return [item.source for item in service.only_job.items]


def test_a_short_list_is_one_call_with_all_that_was_said(client: Any, service: FakeService):
    job = client.submit(
        ["s3://media/a.jpg", ItemRequest(source="s3://media/b.mp4", options=EmbedOptions(fps=1.0))],
        model="random:tiny",
        priority=7,
        options=EmbedOptions(max_pixels=100_352),
        kind="video",
        labels={"set": "train"},
        webhook="https://example.org/done",
    )

    request = service.only_job.request
    assert service.requests == ["POST /v1/jobs"]
    assert (job.id, job.counts.total) == (service.only_job.id, 2)
    assert (request.model, request.priority, request.labels, request.closed) == (
        "random:tiny",
        7,
        {"set": "train"},
        True,
    )
    assert (request.options.max_pixels, str(request.webhook)) == (100_352, "https://example.org/done")
    assert [item.kind.value for item in service.only_job.items] == ["video", "video"]
    assert service.only_job.items[1].options == EmbedOptions(fps=1.0)


def test_an_items_own_kind_wins(client: Any, service: FakeService):
    client.submit(["s3://m/a", ItemRequest(source="s3://m/b", kind="image")], kind="video")
    assert [item.kind.value for item in service.only_job.items] == ["video", "image"]


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2000, 2500])
def test_an_iterable_is_sent_a_thousand_at_a_time_and_closed_with_the_last(
    client: Any, service: FakeService, number: int
):
    sources = [f"s3://m/{position}" for position in range(number)]

    job = client.submit(iter(sources))

    assert sources_of(service) == sources
    assert service.only_job.is_closed
    assert job.counts.total == number
    assert len(service.requested("POST")) == max(1, -(-number // 1000))


def test_what_is_not_sent_yet_is_not_read_yet(client: Any, service: FakeService):
    sent_when_read = []

    def sources() -> Iterator[str]:
        for position in range(4000):
            if position % 1000 == 0:
                sent_when_read.append(len(service.only_job.items) if service.jobs else 0)
            yield f"s3://m/{position}"

    client.submit(sources())
    # One call is held back, to know which is the last.
    assert sent_when_read == [0, 0, 1000, 2000]


@pytest.mark.parametrize("fault", [Dropped(after_effect=False), Dropped(after_effect=True), Refused(503), Refused(502)])
@pytest.mark.parametrize("call", ["POST /v1/jobs$", "POST /v1/jobs/.*/items"])
def test_a_call_whose_answer_is_lost_is_made_again_and_adds_nothing_twice(
    client: Any, service: FakeService, fault: Any, call: str
):
    service.fail(call, fault, fault)
    sources = [f"s3://m/{position}" for position in range(1500)]

    client.submit(sources)

    assert sources_of(service) == sources
    assert len(service.requested("POST")) == 4


def test_the_second_attempt_says_the_same_idempotency_key(client: Any, service: FakeService):
    service.fail("POST", Dropped(after_effect=True))
    client.submit(["s3://m/a"])
    first, second = (headers["idempotency-key"] for headers in service.headers)
    assert first == second
    assert len(service.jobs) == 1


def test_a_busy_service_is_waited_for_past_the_number_of_attempts(client: Any, service: FakeService):
    service.fail("POST", *[Refused(429, {"retry-after": "0"})] * 12)
    assert client.submit(["s3://m/a"]).counts.total == 1


def test_a_service_that_asks_for_more_than_our_patience_is_not_waited_for(client: Any, service: FakeService):
    service.fail("POST", Refused(429, {"retry-after": "3600"}))
    with pytest.raises(TooManyRequests) as caught:
        client.submit(["s3://m/a"])
    assert caught.value.retry_after_seconds == 3600


@pytest.mark.parametrize(
    ("fault", "error"), [(Refused(503), ServiceFailed), (Dropped(after_effect=True), ServiceUnreachable)]
)
def test_attempts_come_to_an_end_and_the_error_says_how_to_find_the_job(
    client: Any, service: FakeService, fault: Any, error: type[Exception]
):
    service.fail("POST", *[fault] * 20)
    with pytest.raises(error) as caught:
        client.submit(["s3://m/a"])
    assert len(service.requests) == 4
    key = service.headers[0]["idempotency-key"]
    assert key in caught.value.__notes__[0]


def test_a_submission_that_breaks_off_is_cancelled_and_says_so(client: Any, service: FakeService):
    def sources() -> Iterator[str]:
        yield from (f"s3://m/{position}" for position in range(2100))
        raise KeyError("the producer's own fault")

    with pytest.raises(KeyError) as caught:
        client.submit(sources())

    assert service.only_job.is_cancelled
    assert f"job {service.only_job.id}" in caught.value.__notes__[0]


def test_a_submission_with_a_key_is_left_open_and_gone_on_with(client: Any, service: FakeService):
    sources = [f"s3://m/{position}" for position in range(4500)]
    service.fail("POST .*/items", Refused(400))

    with pytest.raises(Exception, match="400") as caught:
        client.submit(sources, idempotency_key="mine")
    assert "idempotency_key" in caught.value.__notes__[0]
    assert (len(service.only_job.items), service.only_job.is_closed) == (1000, False)

    # Broken off again later: now two calls are there.
    service.fail("POST .*/items", Dropped(after_effect=False), *[Refused(400)])
    with pytest.raises(Exception, match="400"):
        client.submit(sources, idempotency_key="mine")

    client.submit(sources, idempotency_key="mine")
    assert sources_of(service) == sources
    assert service.only_job.is_closed

    before = len(service.requests)
    client.submit(sources, idempotency_key="mine")
    assert service.requests[before:] == ["POST /v1/jobs"]


def test_ctrl_c_cancels_what_was_begun(client: Any, service: FakeService):
    def sources() -> Iterator[str]:
        yield from (f"s3://m/{position}" for position in range(2100))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.submit(sources())
    assert service.only_job.is_cancelled


def test_local_files_are_uploaded_once_each_and_a_bounded_number_at_once(
    client: Any, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = [tmp_path / f"{name}.jpg" for name in "abcdefghij"]
    for path in paths:
        path.write_bytes(path.name.encode() * 100_000)
    given = [*paths, str(paths[0]), ItemRequest(source=str(paths[1]), kind="image"), "s3://m/k"]
    crowd = Crowd(service, "POST /v1/uploads")

    client.submit(given)

    uploaded = {name: source for source in service.uploads for name in [source.rpartition("/")[2]]}
    expected = [uploaded[path.name] for path in [*paths, paths[0], paths[1]]]
    assert sources_of(service) == [*expected, "s3://m/k"]
    assert len(service.requested("POST /v1/uploads")) == len(paths)
    assert service.uploads[uploaded["c.jpg"]] == b"c.jpg" * 100_000
    assert 2 <= crowd.most <= 4


class Crowd:
    """How many requests of a kind were under way at once."""

    def __init__(self, service: FakeService, pattern: str) -> None:
        self.most = 0
        self._now = 0
        self._pattern = pattern
        self._lock = threading.Lock()
        #: The first two meet here: a crowd of one would wait for ever.
        self._together = threading.Barrier(2, timeout=30)
        self._begin, service.fault_of = service.fault_of, self._enter  # type: ignore[method-assign]

    def _enter(self, request: str) -> Any:
        fault = self._begin(request)
        if not re.search(self._pattern, request):
            return fault
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._together.wait()
        with self._lock:
            self._now -= 1
        return fault


def test_an_upload_that_breaks_off_is_made_again_from_the_start(client: Any, service: FakeService, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"a" * 3_000_000)
    service.fail("POST /v1/uploads", Dropped(after_effect=True), Refused(503))

    kept = client.upload(tmp_path / "a.jpg")

    assert (kept.byte_size, kept.source) == (3_000_000, next(iter(service.uploads)))
    assert len(service.requests) == 3


def test_a_file_that_is_not_there_stops_the_submission_before_a_job_is_made(
    client: Any, service: FakeService, tmp_path: Path
):
    with pytest.raises(FileNotFoundError):
        client.submit(["s3://m/a", tmp_path / "missing.jpg"])
    assert not service.jobs


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"priority": 11}, "priority: .*less than or equal to 9"),
        ({"labels": {"not a name": "x"}}, "labels"),
        ({"webhook": "nowhere"}, "webhook"),
        ({"idempotency_key": "two words"}, "idempotency_key: give 1 to 255"),
        ({"kind": "sound"}, "say auto, image or video"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_sent(
    client: Any, service: FakeService, arguments: dict[str, Any], sentence: str
):
    with pytest.raises(InvalidArgument, match=sentence):
        client.submit(["s3://m/a"], **arguments)
    assert service.requests == []
