"""Items over HTTP: listed by state and code, read, tried again."""

from __future__ import annotations

from tests.served_api import ServedApi, problem_of


def test_items_are_listed_a_page_at_a_time_in_the_order_of_submission(api: ServedApi) -> None:
    job = api.make_job(5)

    seen, cursor = [], 0
    while cursor is not None:
        page = api.client.get(f"/v1/jobs/{job['id']}/items", params={"limit": 2, "cursor": cursor}).json()
        seen += [item["position"] for item in page["entries"]]
        cursor = page["next_cursor"]

    assert seen == [0, 1, 2, 3, 4]


def test_items_are_found_by_state_and_code(api: ServedApi) -> None:
    job = api.make_job(4)
    api.fail(job["id"], "not_found", "corrupt_media")

    def found(query: str) -> list[int]:
        return [item["position"] for item in api.client.get(f"/v1/jobs/{job['id']}/items?{query}").json()["entries"]]

    assert found("state=failed") == [0, 1]
    assert found("state=failed&state=running") == [0, 1, 2, 3]
    assert found("code=corrupt_media") == [1]
    assert found("state=running&code=corrupt_media") == []


def test_an_item_says_what_became_of_it(api: ServedApi) -> None:
    job = api.make_job(1)
    api.fail(job["id"], "not_found")
    (listed,) = api.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"]

    item = api.client.get(f"/v1/items/{listed['id']}").json()

    assert item == listed
    assert (item["state"], item["attempt"], item["worker"]) == ("failed", 1, "worker")
    assert item["error"] == {"code": "not_found", "message": "look again"}
    assert item["embedding"] is None


def test_an_embedding_says_its_grid_and_times(api: ServedApi) -> None:
    item = api.client.get(f"/v1/items/{api.embedded_clip().id}").json()

    assert item["state"] == "succeeded"
    assert item["timings"]["total"] == 1.3
    assert item["embedding"]["grid_thw"] == [3, 8, 12]
    assert item["embedding"]["timestamps"] == [0.0, 0.5, 1.0]
    assert item["embedding"]["num_tokens"] == 72


def test_one_failed_item_is_tried_again_and_any_other_is_left_alone(api: ServedApi) -> None:
    job = api.make_job(2)
    api.fail(job["id"], "not_found")
    failed, running = api.client.get(f"/v1/jobs/{job['id']}/items").json()["entries"]

    assert api.client.post(f"/v1/items/{failed['id']}/retry").json() == {"retried": 1}
    assert api.client.post(f"/v1/items/{running['id']}/retry").json() == {"retried": 0}
    assert api.client.get(f"/v1/items/{failed['id']}").json()["state"] == "queued"


def test_an_item_that_is_not_there_is_404_everywhere(api: ServedApi) -> None:
    answers = [
        api.client.get("/v1/items/7"),
        api.client.get("/v1/items/7/embedding"),
        api.client.get("/v1/items/7/preview.png"),
        api.client.post("/v1/items/7/retry"),
    ]

    assert [problem_of(answer) for answer in answers] == [(404, "item_not_found")] * len(answers)
    assert problem_of(api.client.get("/v1/items/99999999999999999999")) == (422, "invalid_request")
