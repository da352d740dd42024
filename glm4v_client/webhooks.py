"""The message that a service sends when a job has ended, and how a receiver knows that it comes from there.

X-Glm4v-Timestamp: 1764000000              when it was sent, in seconds since 1970
X-Glm4v-Signature: v1=5257a869e7…          HMAC-SHA256 of the timestamp, a full stop and the body
X-Glm4v-Delivery: 0d5c…                    the same for every attempt at telling one end of a job
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping

from glm4v_client.errors import UnverifiedWebhook
from glm4v_client.records import Job

TIMESTAMP = "X-Glm4v-Timestamp"
SIGNATURE = "X-Glm4v-Signature"
DELIVERY = "X-Glm4v-Delivery"


def verify_webhook(
    body: bytes, headers: Mapping[str, str], secret: str, *, tolerance_seconds: float = 300, now: float | None = None
) -> Job:
    """The job that a webhook's message tells of.

    A message may come twice: remember X-Glm4v-Delivery if doing something twice would matter.

    Args:
        body: as it arrived, not parsed and written again.
        headers: their names in any case.
        secret: the service's GLM4V_WEBHOOK_SECRET.
        tolerance_seconds: age above which a message is taken for one that somebody recorded and plays again.
        now: seconds since 1970; the clock's if not given.

    Raises:
        UnverifiedWebhook: it was not signed with this secret, was changed on its way, or is too old.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    timestamp, signature = (lower.get(name.lower(), "") for name in (TIMESTAMP, SIGNATURE))
    if not hmac.compare_digest(sign(body, timestamp, secret).encode(), signature.encode(errors="replace")):
        raise UnverifiedWebhook(f"the message is not signed with this secret: compare it, and {SIGNATURE}")
    age = (time.time() if now is None else now) - _seconds(timestamp)
    if abs(age) > tolerance_seconds:
        raise UnverifiedWebhook(f"the message was sent {age:,.0f} seconds ago: check both clocks")
    return Job.model_validate_json(body)


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """The value of X-Glm4v-Signature."""
    signed = timestamp.encode(errors="replace") + b"." + body
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _seconds(timestamp: str) -> int:
    try:
        return int(timestamp)
    except ValueError as error:
        raise UnverifiedWebhook(f"{TIMESTAMP} is {timestamp!r}, and not a number of seconds") from error
