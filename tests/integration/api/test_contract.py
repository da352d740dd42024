"""What the API says of itself, held against what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.schemas import APIOperation, BaseSchema

from api.application import create_app
from api.keys import new_key
from api.openapi import PATH, text
from api.service import Service, open_service
from tests.repositories import claim_all, make_job
from tests.shown_items import store_video
from worker.database import migrate
from worker.records import Failed
from worker.settings import Settings
from worker.storage import open_storage

KEY, ENTRY = new_key("tests")
HEADERS = {"authorization": f"Bearer {KEY}"}
#: Requests made up for one operation.
EXAMPLES = 20


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    configured = Settings(
        database_url=f"sqlite:///{tmp_path}/jobs.db",
        store_url=f"file://{tmp_path}/store",
        model="random:tiny",
        api_keys=(ENTRY,),
        webhook_secret="a secret for tests alone",
    )
    migrate(configured.database_url)
    service = open_service(configured)
    yield service
    service.close()


@pytest.fixture
def described(service: Service) -> BaseSchema:
    """Without streams of events, which would not end."""
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", create_app(service), headers=HEADERS)
    return schema.exclude(path_regex=r"/events$")


def test_every_answer_is_as_described(described: BaseSchema) -> None:
    operations = [result.ok() for result in described.get_all_operations()]

    assert len(operations) == 19
    for operation in operations:
        check(operation, {})


def test_what_is_there_is_answered_as_described(described: BaseSchema, service: Service) -> None:
    for operation in (result.ok() for result in described.get_all_operations()):
        if operation.path_parameters:
            check(operation, existing(service))


def existing(service: Service) -> dict[str, object]:
    """The ids of a job whose items have several outcomes, and of the one that succeeded."""
    job = make_job(service.repository, 4, owner=ENTRY.name, close=False, webhook="https://example.org/hook")
    good, bad, *_ = claim_all(service.repository, job)
    storage = open_storage(service.settings.store_url, service.settings)
    service.repository.record([store_video(storage, good), Failed(item=bad, code="not_found", message="look again")])
    return {"job_id": str(job.id), "item_id": good.id}


def check(operation: APIOperation, ids: dict[str, object]) -> None:
    """Make up requests for an operation, and hold the answers against its description."""

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def answers_as_described(case: Case) -> None:
        for name in case.path_parameters or {}:
            case.path_parameters[name] = ids.get(name, case.path_parameters[name])
        assume(not bounds_cross(case.body))
        case.headers.update(HEADERS)
        # It takes our key for one that was made up; test_auth tries every path without a key and with a wrong one.
        case.call_and_validate(excluded_checks=CHECKS.get_by_names(["ignored_auth"]))

    answers_as_described()


def bounds_cross(body: object) -> bool:
    """Whether some options have their least above their most, which is refused and which a schema cannot say."""
    if isinstance(body, list):
        return any(bounds_cross(part) for part in body)
    if not isinstance(body, dict):
        return False
    least, most = body.get("min_pixels"), body.get("max_pixels")
    numbers = isinstance(least, int | float) and isinstance(most, int | float)
    return (numbers and least > most) or any(bounds_cross(part) for part in body.values())


def test_the_checked_in_description_is_the_present_one(tmp_path: Path) -> None:
    configured = Settings(database_url=f"sqlite:///{tmp_path}/jobs.db", store_url=f"file://{tmp_path}")

    told = text(create_app(open_service(configured)))

    assert json.loads(told)["openapi"].startswith("3.")
    assert PATH.read_text() == told, "run `python -m api.openapi`"
