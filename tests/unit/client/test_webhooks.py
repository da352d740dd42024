from __future__ import annotations

import pytest

from glm4v_client import UnverifiedWebhook, verify_webhook
from glm4v_client.webhooks import SIGNATURE, TIMESTAMP, sign
from tests.unit.test_job_answer import JOB
from worker.job_answer import job_answer

SECRET = "a secret of the service"
BODY = job_answer(JOB).model_dump_json().encode()
SENT_AT = 1_764_000_000
HEADERS = {TIMESTAMP: str(SENT_AT), SIGNATURE: sign(BODY, str(SENT_AT), SECRET)}


def test_a_message_of_the_service_is_a_job() -> None:
    assert verify_webhook(BODY, HEADERS, SECRET, now=SENT_AT + 10) == job_answer(JOB)


def test_headers_count_in_any_case() -> None:
    lower = {name.lower(): value for name, value in HEADERS.items()}
    assert verify_webhook(BODY, lower, SECRET, now=SENT_AT).id == JOB.id


def test_the_signature_is_the_one_that_openssl_makes() -> None:
    # printf '1764000000.{}' | openssl dgst -sha256 -hmac secret
    assert sign(b"{}", "1764000000", "secret") == (
        "v1=b691197929ebc73b102d12f9a4689644cb2d1a38c9f2d1883b9f478077313f85"
    )


@pytest.mark.parametrize(
    ("body", "headers", "secret"),
    [
        (BODY + b" ", HEADERS, SECRET),
        (BODY, HEADERS, "another secret"),
        (BODY, {**HEADERS, TIMESTAMP: str(SENT_AT + 1)}, SECRET),
        (BODY, {**HEADERS, SIGNATURE: HEADERS[SIGNATURE].removeprefix("v1=")}, SECRET),
        (BODY, {**HEADERS, SIGNATURE: "v1=ü"}, SECRET),
        (BODY, {TIMESTAMP: str(SENT_AT)}, SECRET),
        (BODY, {SIGNATURE: HEADERS[SIGNATURE]}, SECRET),
        (BODY, {}, SECRET),
    ],
    ids=["changed", "other secret", "moved in time", "no version", "no ascii", "unsigned", "timeless", "bare"],
)
def test_anything_else_is_refused(body: bytes, headers: dict[str, str], secret: str) -> None:
    with pytest.raises(UnverifiedWebhook, match="not signed"):
        verify_webhook(body, headers, secret, now=SENT_AT)


@pytest.mark.parametrize("age", [301, -301])
def test_a_message_of_another_time_is_refused(age: int) -> None:
    with pytest.raises(UnverifiedWebhook, match="check both clocks"):
        verify_webhook(BODY, HEADERS, SECRET, now=SENT_AT + age)
    assert verify_webhook(BODY, HEADERS, SECRET, now=SENT_AT + age, tolerance_seconds=302).id == JOB.id


def test_a_signed_timestamp_that_is_no_number_is_refused() -> None:
    headers = {TIMESTAMP: "noon", SIGNATURE: sign(BODY, "noon", SECRET)}
    with pytest.raises(UnverifiedWebhook, match="'noon'"):
        verify_webhook(BODY, headers, SECRET, now=SENT_AT)
