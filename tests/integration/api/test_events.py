"""A job's events over HTTP."""

from __future__ import annotations

import json

from tests.served_api import ServedApi


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    """Names and contents of a stream's events."""
    found = []
    for block in text.strip().split("\n\n"):
        name, _, data = block.partition("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_job_that_has_ended_is_told_once_and_the_stream_ends(api: ServedApi) -> None:
    job = api.make_job(2)
    api.client.post(f"/v1/jobs/{job['id']}/cancel")

    answer = api.client.get(f"/v1/jobs/{job['id']}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    ((name, told),) = events(answer.text)
    assert name == "end"
    now = api.client.get(f"/v1/jobs/{job['id']}").json()
    assert {**told, "measured_at": None, "webhook": None} == {**now, "measured_at": None}


def test_a_stream_that_is_over_is_counted_out(api: ServedApi) -> None:
    job = api.make_job(0)

    api.client.get(f"/v1/jobs/{job['id']}/events")

    page = api.client.get("/metrics").text
    assert "glm4v_api_event_streams 0.0" in page
    # It lasted as long as its client liked, which says nothing of the service.
    assert 'glm4v_api_request_seconds_count{route="/v1/jobs/{job_id}/events"}' not in page
