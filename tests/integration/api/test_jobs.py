"""Jobs over HTTP: made, filled, listed, ended."""

from __future__ import annotations

import uuid
from pathlib import Path
from uuid import UUID

import pytest

from glm4v_client.records import MOST_ITEMS
from tests.repositories import claim_all, states
from tests.served_api import ServedApi, problem_of


def test_a_job_is_made_with_its_items_and_workers_are_told(api: ServedApi) -> None:
    answer = api.client.post(
        "/v1/jobs",
        json={
            "items": [
                "s3://media/cat.jpg",
                {"source": "clip", "kind": "video", "options": {"fps": 2, "dtype": "int8"}},
            ],
            "options": {"max_pixels": 100_352.0},
            "priority": 7,
            "labels": {"set": "coco"},
        },
    )

    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/jobs/{job['id']}")
    assert (job["state"], job["model"], job["priority"], job["labels"]) == ("queued", "random:tiny", 7, {"set": "coco"})
    assert job["options"]["max_pixels"] == 100_352
    assert job["counts"] == {"total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    first, second = api.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"]
    assert (first["source"], first["kind"], first["position"]) == ("s3://media/cat.jpg", "auto", 0)
    assert (second["source"], second["kind"], second["position"]) == ("clip", "video", 1)
    claimed = claim_all(api.repository, api.repository.get_job(UUID(job["id"])))
    assert claimed[1].options == {"max_pixels": 100_352, "fps": 2, "dtype": "int8"}
    assert api.announced == ["random:tiny"]


def test_the_same_idempotency_key_is_the_same_job_and_another_request_is_a_conflict(api: ServedApi) -> None:
    send = {"json": {"items": ["a", "b"]}, "headers": {"Idempotency-Key": "mine"}}
    first, second = api.client.post("/v1/jobs", **send), api.client.post("/v1/jobs", **send)
    other = api.client.post("/v1/jobs", json={"items": ["a"], "priority": 1}, headers={"Idempotency-Key": "mine"})

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["counts"]["total"] == 2
    assert problem_of(other) == (409, "idempotency_conflict")


def test_an_open_job_takes_items_until_it_is_closed_and_repetition_adds_none_twice(api: ServedApi) -> None:
    job = api.make_job(2, closed=False)
    path = f"/v1/jobs/{job['id']}/items"
    body = {"items": ["c", "d"], "first_position": 2}

    assert api.client.post(path, json=body).json() == {"added": 2, "total": 4}
    assert api.client.post(path, json=body).json() == {"added": 0, "total": 4}
    assert problem_of(api.client.post(path, json={"items": ["g"], "first_position": 6})) == (409, "position_conflict")
    assert api.client.post(path, json={"items": ["e"], "closed": True}).json() == {"added": 1, "total": 5}
    assert problem_of(api.client.post(path, json={"items": ["f"]})) == (409, "job_closed")
    assert api.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_closing_an_empty_job_finishes_it(api: ServedApi) -> None:
    job = api.make_job(0, closed=False)

    assert job["state"] == "open"
    assert api.client.post(f"/v1/jobs/{job['id']}/close").json()["state"] == "finished"


def test_cancelling_keeps_what_is_done_and_takes_no_more(api: ServedApi) -> None:
    job = api.make_job(3, closed=False)

    cancelled = api.client.post(f"/v1/jobs/{job['id']}/cancel").json()

    assert (cancelled["state"], cancelled["counts"]["cancelled"]) == ("cancelled", 3)
    assert problem_of(api.client.post(f"/v1/jobs/{job['id']}/items", json={"items": ["x"]})) == (409, "job_cancelled")
    assert problem_of(api.client.post(f"/v1/jobs/{job['id']}/retry")) == (409, "job_cancelled")


def test_retrying_queues_the_failed_items_of_one_code_or_all(api: ServedApi) -> None:
    job = api.make_job(3)
    record = api.fail(job["id"], "not_found", "corrupt_media", "corrupt_media")
    api.announced.clear()

    assert api.client.post(f"/v1/jobs/{job['id']}/retry?code=not_found").json() == {"retried": 1}
    assert sorted(states(api.repository, record)) == ["failed", "failed", "queued"]
    assert api.client.post(f"/v1/jobs/{job['id']}/retry").json() == {"retried": 2}
    assert api.client.post(f"/v1/jobs/{job['id']}/retry").json() == {"retried": 0}
    assert api.announced == ["random:tiny"] * 2


def test_a_deleted_job_is_gone_with_its_items(api: ServedApi) -> None:
    job = api.make_job(1)
    item = api.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"][0]

    assert api.client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert problem_of(api.client.get(f"/v1/jobs/{job['id']}")) == (404, "job_not_found")
    assert problem_of(api.client.get(f"/v1/items/{item['id']}")) == (404, "item_not_found")
    assert problem_of(api.client.delete(f"/v1/jobs/{job['id']}")) == (404, "job_not_found")


def test_jobs_are_listed_newest_first_a_page_at_a_time(api: ServedApi) -> None:
    made = [api.make_job(1)["id"] for _ in range(5)]

    seen, cursor = [], None
    while True:
        page = api.client.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["entries"]) <= 2
        seen += [job["id"] for job in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]


def test_jobs_are_found_by_state_and_label(api: ServedApi) -> None:
    waiting = api.make_job(1, labels={"set": "a:b"})["id"]
    finished = api.make_job(0, labels={"set": "c"})["id"]

    def found(query: str) -> list[str]:
        return [job["id"] for job in api.client.get(f"/v1/jobs?{query}").json()["entries"]]

    assert found("state=queued") == [waiting]
    assert found("state=finished") == [finished]
    assert found("label=set:a:b") == [waiting]
    assert found("label=set:z") == []


def test_a_webhook_is_shown_and_needs_a_secret(api: ServedApi, tmp_path: Path) -> None:
    asked = {"items": ["a"], "webhook": "https://example.org/done"}
    assert problem_of(api.client.post("/v1/jobs", json=asked)) == (422, "webhooks_disabled")

    (tmp_path / "other").mkdir()
    with ServedApi(tmp_path / "other", webhook_secret="a secret for tests alone") as other:
        job = other.client.post("/v1/jobs", json=asked).json()

    assert job["webhook"]["url"] == "https://example.org/done"
    assert (job["webhook"]["state"], job["webhook"]["deliveries"]) == ("waiting", [])


def test_deliveries_of_a_webhook_are_shown_on_its_job(tmp_path: Path) -> None:
    # No application runs here, which would deliver by itself.
    api = ServedApi(tmp_path, webhook_secret="a secret for tests alone")
    job = api.client.post("/v1/jobs", json={"webhook": "https://example.org/done"}).json()
    for status, error, retry in ((500, "the receiver answered 500", 0.0), (204, None, None)):
        (due,) = api.repository.webhooks.claim(lease_seconds=60, limit=1)
        api.repository.webhooks.record(due, seconds=0.25, status=status, error=error, retry_seconds=retry)

    webhook = api.client.get(f"/v1/jobs/{job['id']}").json()["webhook"]

    assert (webhook["state"], webhook["next_attempt_at"]) == ("delivered", None)
    shown = [(told["attempt"], told["status"], told["error"], told["seconds"]) for told in webhook["deliveries"]]
    assert shown == [(2, 204, None, 0.25), (1, 500, "the receiver answered 500", 0.25)]
    api.service.close()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"items": [""]}, "body.items.0.text"),
        ({"items": ["nul\0"]}, "body.items.0.text"),
        ({"items": [{"source": "a", "kind": "sound"}]}, "body.items.0.item.kind"),
        ({"items": ["a"], "colour": "red"}, "body.colour"),
        ({"items": ["a"], "priority": 10}, "body.priority"),
        ({"items": ["a"], "options": {"fps": 0}}, "body.options.fps"),
        ({"items": ["a"], "options": {"min_pixels": 2000, "max_pixels": 1000}}, "body.options"),
        ({"items": ["a"], "webhook": "ftp://example.org"}, "body.webhook"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_by_its_place(api: ServedApi, body: dict[str, object], place: str) -> None:
    answer = api.client.post("/v1/jobs", json=body)

    assert problem_of(answer) == (422, "invalid_request")
    assert place in [fault["at"] for fault in answer.json()["errors"]]


def test_a_body_that_is_no_json_is_refused(api: ServedApi) -> None:
    answer = api.client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})

    assert problem_of(answer) == (422, "invalid_request")


def test_too_many_items_in_one_request_have_a_code_of_their_own(api: ServedApi) -> None:
    assert problem_of(api.client.post("/v1/jobs", json={"items": ["a"] * (MOST_ITEMS + 1)})) == (422, "too_many_items")
    assert api.client.post("/v1/jobs", json={"items": ["a"] * MOST_ITEMS}).status_code == 201


def test_too_much_unfinished_work_is_refused_for_a_while(tmp_path: Path) -> None:
    with ServedApi(tmp_path, max_unfinished_items=5) as api:
        job = api.make_job(4, closed=False)
        more = api.client.post(f"/v1/jobs/{job['id']}/items", json={"items": ["a", "b"]})
        assert problem_of(more) == (429, "too_much_work")
        assert int(more.headers["retry-after"]) > 0
        assert problem_of(api.client.post("/v1/jobs", json={"items": ["a", "b"]})) == (429, "too_much_work")
        # What was there before comes first: one is allowed still.
        assert api.client.post(f"/v1/jobs/{job['id']}/items", json={"items": ["a"]}).status_code == 200


def test_a_repeated_request_is_no_new_work(tmp_path: Path) -> None:
    with ServedApi(tmp_path, max_unfinished_items=3) as api:
        first = {"json": {"items": ["a", "b"], "closed": False}, "headers": {"Idempotency-Key": "once"}}
        job = api.client.post("/v1/jobs", **first).json()
        last = {"items": ["c"], "first_position": 2, "closed": True}
        path = f"/v1/jobs/{job['id']}/items"
        assert api.client.post(path, json=last).json() == {"added": 1, "total": 3}

        again = api.client.post("/v1/jobs", **first)
        assert (again.status_code, again.json()["id"]) == (200, job["id"])
        assert api.client.post(path, json=last).json() == {"added": 0, "total": 3}
        assert problem_of(api.client.post("/v1/jobs", json={"items": ["d"]})) == (429, "too_much_work")


def test_a_job_that_is_not_there_is_404_everywhere(api: ServedApi) -> None:
    path = f"/v1/jobs/{uuid.uuid4()}"
    answers = [
        api.client.get(path),
        api.client.delete(path),
        api.client.get(f"{path}/items"),
        api.client.get(f"{path}/events"),
        api.client.post(f"{path}/items", json={"items": ["a"]}),
        *(api.client.post(f"{path}/{verb}") for verb in ("close", "cancel", "retry")),
    ]

    assert [problem_of(answer) for answer in answers] == [(404, "job_not_found")] * len(answers)
