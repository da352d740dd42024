"""Who is let in: by key, or as a program of this machine; and which pages of others are not."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.keys import new_key
from api.openapi import document
from tests.served_api import ServedApi, problem_of

ANN, ANNS_ENTRY = new_key("ann")
BEN, BENS_ENTRY = new_key("ben")
OPEN = {"/healthz", "/readyz", "/metrics"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()}


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[ServedApi]:
    with ServedApi(tmp_path, api_keys=(ANNS_ENTRY, BENS_ENTRY)) as served:
        yield served


def every_operation(api: ServedApi) -> list[tuple[str, str]]:
    described = document(api.application)["paths"]
    return [
        (method, re.sub(r"{\w+}", "1", path))
        for path, operations in described.items()
        for method in operations
        if path not in OPEN
    ]


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), basic("wrong"), bearer(""), {"authorization": "Basic ###"}])
def test_no_path_is_open_without_a_key_that_is_known(keyed: ServedApi, headers: dict[str, str]) -> None:
    operations = [*every_operation(keyed), ("get", "/"), ("get", "/v1/openapi.json"), ("get", "/nowhere")]

    answers = {path: keyed.client.request(method, path, headers=headers) for method, path in operations}

    assert len(answers) > 10
    for answer in answers.values():
        assert problem_of(answer) == (401, "unauthorized")
        assert "Basic" in answer.headers["www-authenticate"]


def test_a_key_is_taken_as_a_token_and_as_a_password(keyed: ServedApi) -> None:
    assert keyed.client.get("/v1/jobs", headers=bearer(ANN)).status_code == 200
    assert keyed.client.get("/v1/jobs", headers=basic(BEN)).status_code == 200


def test_with_keys_it_does_not_matter_where_a_client_is(keyed: ServedApi) -> None:
    client = TestClient(keyed.application, base_url="https://tokens.example.org", client=("203.0.113.9", 1))

    assert client.get("/v1/jobs", headers=bearer(ANN)).status_code == 200


def test_what_belongs_to_another_key_does_not_exist(keyed: ServedApi) -> None:
    item = keyed.embedded_clip(owner="ann")
    keyed.client.headers.update(bearer(BEN))

    job, one = f"/v1/jobs/{item.job_id}", f"/v1/items/{item.id}"
    assert keyed.client.get("/v1/jobs").json()["entries"] == []
    for method, path in [
        ("get", job),
        ("delete", job),
        ("get", f"{job}/items"),
        ("get", f"{job}/events"),
        ("post", f"{job}/cancel"),
        ("post", f"{job}/close"),
        ("post", f"{job}/retry"),
    ]:
        assert problem_of(keyed.client.request(method, path)) == (404, "job_not_found"), path
    assert problem_of(keyed.client.post(f"{job}/items", json={"items": ["a"]})) == (404, "job_not_found")
    for method, path in [
        ("get", one),
        ("post", f"{one}/retry"),
        ("get", f"{one}/embedding"),
        ("get", f"{one}/preview.png"),
    ]:
        assert problem_of(keyed.client.request(method, path)) == (404, "item_not_found"), path
    keyed.client.headers.update(bearer(ANN))
    assert [keyed.client.get(path).status_code for path in (job, one, f"{one}/embedding")] == [200] * 3


def test_the_same_idempotency_key_of_two_owners_is_two_jobs(keyed: ServedApi) -> None:
    made = [
        keyed.client.post("/v1/jobs", json={"items": ["a"]}, headers={**bearer(key), "Idempotency-Key": "k"})
        for key in (ANN, BEN)
    ]

    assert [answer.status_code for answer in made] == [201, 201]
    assert [answer.json()["owner"] for answer in made] == ["ann", "ben"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.8.8.8"])
def test_without_keys_programs_of_this_machine_are_served(api: ServedApi, host: str) -> None:
    assert api.client.get("/v1/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "", "[::"])
def test_without_keys_a_name_that_leads_here_by_dns_alone_is_refused(api: ServedApi, host: str) -> None:
    assert problem_of(api.client.get("/v1/jobs", headers={"host": host})) == (403, "loopback_only")


def test_without_keys_other_machines_are_refused_and_told_why(api: ServedApi) -> None:
    away = TestClient(api.application, base_url="http://localhost", client=("192.0.2.7", 1))

    refused = away.get("/v1/jobs")

    assert problem_of(refused) == (403, "loopback_only")
    assert "GLM4V_API_KEYS" in refused.json()["detail"]
    assert [away.get(path).status_code for path in sorted(OPEN)] == [200, 200, 200]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
def test_without_keys_nobody_is_served_through_a_proxy(api: ServedApi, header: str) -> None:
    assert problem_of(api.client.get("/v1/jobs", headers={header: "127.0.0.1"})) == (403, "loopback_only")


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
    ],
)
def test_pages_of_other_sites_change_nothing(api: ServedApi, headers: dict[str, str]) -> None:
    job = api.make_job(1)

    for method, path in [
        ("post", "/v1/jobs"),
        ("post", f"/v1/jobs/{job['id']}/cancel"),
        ("delete", f"/v1/jobs/{job['id']}"),
    ]:
        assert problem_of(api.client.request(method, path, headers=headers)) == (403, "cross_site")
    assert api.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_the_own_page_may_change_things(api: ServedApi) -> None:
    headers = {"sec-fetch-site": "same-origin", "origin": "http://localhost", "host": "localhost"}

    assert api.client.post("/v1/jobs", json={"items": ["a"]}, headers=headers).status_code == 201
