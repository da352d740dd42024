"""What operators see: metrics, request ids, logs; and what every answer carries."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.conftest import REPOSITORY
from tests.served_api import ServedApi, problem_of
from worker.logs import configure_logging

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()


@pytest.fixture
def log(api: ServedApi) -> Iterator[io.StringIO]:
    """What the service logs, a JSON object a line."""
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(api.settings.model_copy(update={"log_format": "json"}), stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = former
    root.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines() if '"api.requests"' in line]


def requests_counted(api: ServedApi) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(api.client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "glm4v_api_requests_total"
    }


def test_requests_are_counted_by_route_method_and_kind_of_status(api: ServedApi) -> None:
    for number in range(20):
        api.client.get(f"/v1/items/{number + 1}")
        api.client.get(f"/nowhere/{number}")
        api.client.request(f"M{number}", "/v1/jobs")

    counted = requests_counted(api)

    assert counted[("/v1/items/{item_id}", "GET", "4xx")] == 20
    assert counted[("unknown", "GET", "4xx")] == 20
    assert sum(value for (_, method, _), value in counted.items() if method == "other") == 20
    assert len(counted) <= 5


def test_every_metric_of_the_api_is_documented(api: ServedApi) -> None:
    page = api.client.get("/metrics").text
    names = {name for name in re.findall(r"^# TYPE (\w+)", page, re.MULTILINE) if not name.endswith("_created")}

    assert names
    assert {name for name in names if f"`{name}`" not in OPERATIONS} == set()


def test_a_request_keeps_its_senders_id_and_the_log_names_it(api: ServedApi, log: io.StringIO) -> None:
    answer = api.client.get("/v1/items/7", headers={"x-request-id": "from-a-proxy.1"})

    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "from-a-proxy.1"
    (line,) = lines(log)
    assert line["request"] == "from-a-proxy.1"
    assert str(line["message"]).startswith("GET /v1/items/7 404 ")


@pytest.mark.parametrize("given", ["two words", "a\tb", "x" * 65, "", "naïve".encode().decode("latin-1")])
def test_an_id_that_could_garble_a_log_is_replaced(api: ServedApi, given: str) -> None:
    answer = api.client.get("/healthz", headers={"x-request-id": given.encode("latin-1")})

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_path_cannot_write_lines_into_the_log(api: ServedApi, log: io.StringIO) -> None:
    api.client.get("/a%0Ab%1B[31m")

    (line,) = lines(log)
    assert str(line["message"]).startswith("GET /a\\nb\\x1b[31m 404")


def test_health_checks_are_not_news(api: ServedApi, log: io.StringIO) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert api.client.get(path).status_code == 200

    assert lines(log) == []


def test_a_mistake_of_ours_is_logged_whole_and_told_in_a_sentence(
    api: ServedApi, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(api.repository, "list_jobs", broken)

    answer = api.client.get("/v1/jobs")

    assert problem_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    failed, answered = lines(log)
    assert "a secret of the inside" in str(failed["traceback"])
    assert failed["request"] == answered["request"] == answer.headers["x-request-id"]
    assert requests_counted(api)[("/v1/jobs", "GET", "5xx")] == 1


def test_a_database_that_is_away_is_503_and_says_when_to_come_back(tmp_path: Path) -> None:
    with ServedApi(tmp_path) as api:
        api.service.repository.close()
        (tmp_path / "jobs.db").unlink()
        (tmp_path / "jobs.db").mkdir()

        answer = api.client.get("/v1/jobs")
        ready = api.client.get("/readyz")

    assert problem_of(answer) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert (ready.status_code, ready.json()["servers"]["database"]["code"]) == (503, "database_unavailable")


def test_every_answer_is_safe_to_open_in_a_browser(api: ServedApi) -> None:
    for path in ("/v1/jobs", "/v1/items/7", "/nowhere", "/healthz", "/v1/openapi.json"):
        headers = api.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_a_method_or_path_that_there_is_not_is_a_problem_too(api: ServedApi) -> None:
    assert problem_of(api.client.get("/v1/nowhere")) == (404, "unknown_path")
    wrong = api.client.put("/v1/jobs")
    assert problem_of(wrong) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, POST"
    assert api.client.put("/v1/jobs/7").headers["allow"] == "DELETE, GET"


def test_a_server_that_cannot_start_says_what_to_set() -> None:
    started = subprocess.run(
        [sys.executable, "-m", "uvicorn", "api.main:app", "--port", "0"], capture_output=True, text=True, timeout=120
    )

    assert started.returncode == 3
    assert "set GLM4V_DATABASE_URL" in started.stderr
    assert "Traceback" not in started.stderr


def test_importing_the_application_reads_nothing_and_brings_no_torch() -> None:
    program = "import api.main, sys; print({'torch', 'av'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)

    assert result.stdout.strip() == "set()"


def test_a_client_that_does_not_follow_the_lifespan_is_told(tmp_path: Path) -> None:
    from api.main import EnvironmentApplication

    with pytest.raises(RuntimeError, match="lifespan"):
        TestClient(EnvironmentApplication()).get("/healthz")
