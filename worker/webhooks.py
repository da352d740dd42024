"""Tells webhooks that their jobs have ended: from the database, until they have heard it or a day is over."""

from __future__ import annotations

import logging
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from uuid import uuid5

import httpcore
import httpx

from glm4v_client.webhooks import DELIVERY, SIGNATURE, TIMESTAMP, sign
from worker.addresses import DEADLINE
from worker.download import CheckedTransport
from worker.errors import EmbedError, PermanentError, TransientError
from worker.job_answer import job_answer
from worker.records import DueDelivery
from worker.repository import Repository
from worker.retry import RetryPolicy
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Attempts under way at once: a receiver that hangs holds one of them for its timeout.
_THREADS = 8
#: Seconds between two looks for jobs that have ended.
_POLL_SECONDS = 1.0
#: Seconds until the second attempt and between any two, at most: with 16 attempts a day's worth.
_FIRST_WAIT, _LONGEST_WAIT = 10.0, 4 * 3600.0
#: Share of a wait that chance may take off it, so that receivers are not asked in waves.
_JITTER = 0.2
#: Seconds beyond its timeout until an attempt of which nothing was heard counts as lost.
_LEASE_MARGIN = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one attempt."""

    status: int | None = None
    #: One sentence; None: it was delivered.
    error: str | None = None
    #: Another attempt would end the same.
    is_final: bool = False


class Receiver:
    """Posts to addresses that nobody vouches for, under the rules of media: public ones, no redirects, in time."""

    def __init__(self, *, allow_private: bool, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._client = httpx.Client(
            transport=CheckedTransport(allow_private=allow_private),
            timeout=timeout_seconds,
            trust_env=False,
            # A connection that was kept may be gone, and a POST is not to be repeated behind our back.
            headers={"user-agent": "glm4v-embed", "connection": "close"},
        )

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a message; only the status of the answer is read."""
        token = DEADLINE.set(time.monotonic() + self._timeout_seconds)
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                return _answer(response)
        except EmbedError as error:
            return Answer(error=error.message, is_final=isinstance(error, PermanentError))
        except (httpcore.TimeoutException, httpx.TimeoutException):
            return Answer(error=f"the receiver did not answer within {self._timeout_seconds:g} seconds")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError, OSError) as error:
            return Answer(error=f"the receiver cannot be reached: {error or type(error).__name__}")
        except (httpcore.UnsupportedProtocol, httpx.InvalidURL) as error:
            return Answer(error=f"the URL cannot be used: {error}", is_final=True)
        finally:
            DEADLINE.reset(token)

    def close(self) -> None:
        self._client.close()


class WebhookSender:
    """A thread of an API process. Any number of processes may run one: the database gives each attempt to one of them.

    Without GLM4V_WEBHOOK_SECRET it does nothing.
    """

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._webhooks = repository.webhooks
        self._secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
        self._lease_seconds = settings.webhook_timeout_seconds + _LEASE_MARGIN
        self._retry = RetryPolicy(
            max_attempts=settings.webhook_attempts, base_seconds=_FIRST_WAIT, limit_seconds=_LONGEST_WAIT
        )
        self._receiver = Receiver(
            allow_private=settings.allow_private_addresses, timeout_seconds=settings.webhook_timeout_seconds
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook")
        self._room = threading.Semaphore(_THREADS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        if self._secret is not None:
            self._thread.start()

    def stop(self) -> None:
        """Begin no further attempt, and return when those under way are over: within their timeout."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._threads.shutdown()
        self._receiver.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                is_more = self._send_next()
            except TransientError as error:
                log.warning("webhooks are looked for again: %s", error.message)
                is_more = False
            except Exception:
                log.exception("looking for webhooks failed, and is tried again")
                is_more = False
            if not is_more:
                self._stopping.wait(_POLL_SECONDS)

    def _send_next(self) -> bool:
        """Begin the attempt that is longest due, when there is a thread for it. Returns whether there was one."""
        if not self._room.acquire(timeout=_POLL_SECONDS):
            return False
        deliveries: list[DueDelivery] = []
        try:
            deliveries = self._webhooks.claim(lease_seconds=self._lease_seconds, limit=1)
        finally:
            if not deliveries:
                self._room.release()
        for delivery in deliveries:
            self._threads.submit(self._deliver, delivery)
        return bool(deliveries)

    def _deliver(self, delivery: DueDelivery) -> None:
        begun = time.monotonic()
        answer = self._send(delivery)
        log.info("webhook of job %s, attempt %s: %s", delivery.job.id, delivery.attempt, answer.error or "delivered")
        try:
            self._webhooks.record(
                delivery,
                seconds=time.monotonic() - begun,
                status=answer.status,
                error=answer.error,
                retry_seconds=self._wait(delivery, answer),
            )
        except TransientError as error:
            log.warning("what came of a webhook is forgotten, and it is told again: %s", error.message)
        finally:
            self._room.release()

    def _send(self, delivery: DueDelivery) -> Answer:
        try:
            body = job_answer(delivery.job).model_dump_json().encode()
            return self._receiver.post(delivery.url, body, self._headers(delivery, body))
        except Exception as error:
            log.exception("a webhook could not be told")
            return Answer(error=f"a mistake in glm4v-embed itself: {type(error).__name__}; report it with the log")

    def _headers(self, delivery: DueDelivery, body: bytes) -> dict[str, str]:
        assert self._secret is not None
        timestamp = str(int(time.time()))
        return {
            "content-type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(body, timestamp, self._secret),
            # Made of what it tells, so that every attempt has the same.
            DELIVERY: str(uuid5(delivery.job.id, delivery.ended_at.isoformat())),
        }

    def _wait(self, delivery: DueDelivery, answer: Answer) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if answer.error is None or answer.is_final or delivery.attempt >= self._retry.max_attempts:
            return None
        return self._retry.longest_wait(delivery.attempt) * random.uniform(1 - _JITTER, 1)


def _answer(response: httpx.Response) -> Answer:
    if response.is_success:
        return Answer(status=response.status_code)
    said = f"the receiver answered {response.status_code} {response.reason_phrase}".rstrip()
    if response.is_redirect:
        said += ", and redirects are not followed: give the address it leads to"
    return Answer(status=response.status_code, error=said, is_final=response.status_code == HTTPStatus.GONE)
