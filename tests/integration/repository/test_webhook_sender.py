"""Webhooks as a receiver meets them, from jobs that end in a real database to a real web server."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import Engine

from glm4v_client import verify_webhook
from glm4v_client.states import JobState
from glm4v_client.webhooks import DELIVERY
from tests.conftest import REPOSITORY
from tests.repositories import age, make_job
from tests.web_server import Handler, redirect, status, web_server
from worker.errors import WebhooksDisabled
from worker.records import JobRecord, WebhookRecord, WebhookState
from worker.repository import Repository
from worker.settings import Settings
from worker.webhooks import WebhookSender

SECRET = "sixteen characters"


class Inbox:
    """What a receiver got: bodies with their headers. It answers each as it is told to."""

    def __init__(self, *answers: int) -> None:
        self.messages: list[tuple[bytes, dict[str, str]]] = []
        self._answers = list(answers)
        self._lock = threading.Lock()

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        with self._lock:
            self.messages.append((body, dict(request.headers)))
            answer = self._answers.pop(0) if self._answers else 200
        status(answer)(request)


def settings(**values: object) -> Settings:
    chosen = {"allow_private_addresses": True, "webhook_secret": SECRET, **values}
    return Settings(database_url="sqlite:///unused", store_url="file:///unused", **chosen)


@contextmanager
def sending(repository: Repository, **values: object) -> Iterator[WebhookSender]:
    sender = WebhookSender(repository, settings(**values))
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ended_job(repository: Repository, url: str) -> JobRecord:
    return make_job(repository, 0, webhook=url)


def webhook(repository: Repository, job: JobRecord) -> WebhookRecord:
    found = repository.webhooks.get(job.id)
    assert found is not None
    return found


def wait_for(repository: Repository, job: JobRecord, state: WebhookState) -> WebhookRecord:
    wait(lambda: webhook(repository, job).state is state)
    return webhook(repository, job)


def wait_for_attempts(repository: Repository, job: JobRecord, count: int) -> WebhookRecord:
    wait(lambda: len(webhook(repository, job).deliveries) == count)
    return webhook(repository, job)


def hang(request: BaseHTTPRequestHandler) -> None:
    """Until the other side gives up."""
    request.rfile.read(int(request.headers["content-length"]))
    request.connection.recv(1)


def test_the_end_of_a_job_arrives_signed(repository: Repository) -> None:
    inbox = Inbox()
    with web_server({"/hook": inbox}) as address, sending(repository):
        job = ended_job(repository, f"{address}/hook?token=1")
        told = wait_for(repository, job, WebhookState.DELIVERED)
    ((body, headers),) = inbox.messages
    message = verify_webhook(body, headers, SECRET)
    assert (message.id, message.state, message.counts.total) == (job.id, JobState.FINISHED, 0)
    assert headers["content-type"] == "application/json"
    ((attempt, code, error),) = [(one.attempt, one.status, one.error) for one in told.deliveries]
    assert (attempt, code, error) == (1, 200, None)


def test_a_receiver_that_fails_is_asked_again_with_the_same_delivery(repository: Repository, engine: Engine) -> None:
    inbox = Inbox(500, 404, 204)
    with web_server({"/": inbox}) as address, sending(repository):
        job = ended_job(repository, address)
        for count in (1, 2):
            assert wait_for_attempts(repository, job, count).state is WebhookState.WAITING
            age(engine, "jobs", "webhook_due_at", 30)
        told = wait_for(repository, job, WebhookState.DELIVERED)
    assert [(one.attempt, one.status) for one in told.deliveries] == [(3, 204), (2, 404), (1, 500)]
    assert "500" in str(told.deliveries[2].error)
    assert len({headers[DELIVERY] for _, headers in inbox.messages}) == 1


def test_it_is_given_up_after_the_last_attempt(repository: Repository, engine: Engine) -> None:
    inbox = Inbox(500, 500, 500)
    with web_server({"/": inbox}) as address, sending(repository, webhook_attempts=2):
        job = ended_job(repository, address)
        wait_for_attempts(repository, job, 1)
        age(engine, "jobs", "webhook_due_at", 30)
        told = wait_for(repository, job, WebhookState.FAILED)
    assert len(told.deliveries) == len(inbox.messages) == 2


def test_a_receiver_that_hangs_costs_its_timeout_and_holds_up_no_other(repository: Repository) -> None:
    inbox = Inbox()
    with web_server({"/hang": hang, "/": inbox}) as address, sending(repository, webhook_timeout_seconds=2):
        hanging = [ended_job(repository, f"{address}/hang") for _ in range(3)]
        job = ended_job(repository, address)
        wait_for(repository, job, WebhookState.DELIVERED)
        for one in hanging:
            told = wait_for_attempts(repository, one, 1)
            assert (told.deliveries[0].status, told.state) == (None, WebhookState.WAITING)
            assert told.deliveries[0].error == "the receiver did not answer within 2 seconds"


def drip(request: BaseHTTPRequestHandler) -> None:
    """Headers without an end, each well within any timeout for one read."""
    request.rfile.read(int(request.headers["content-length"]))
    request.send_response(200)
    try:
        while True:
            request.send_header("x-more", "1")
            request.flush_headers()
            time.sleep(0.1)
    except OSError:
        request.close_connection = True


def test_a_receiver_that_drips_its_answer_costs_its_timeout_too(repository: Repository) -> None:
    with web_server({"/": drip}) as address, sending(repository, webhook_timeout_seconds=1):
        told = wait_for_attempts(repository, ended_job(repository, address), 1)
    assert "within 1 seconds" in str(told.deliveries[0].error)


def test_a_redirect_is_not_followed(repository: Repository) -> None:
    inbox = Inbox()
    paths: dict[str, Handler] = {"/inside": inbox}
    with web_server(paths) as address, sending(repository):
        paths["/"] = redirect(f"{address}/inside", 307)
        told = wait_for_attempts(repository, ended_job(repository, address), 1)
    assert (told.deliveries[0].status, told.state) == (307, WebhookState.WAITING)
    assert "redirects are not followed" in str(told.deliveries[0].error)
    assert inbox.messages == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_never_connected_to(repository: Repository, host: str) -> None:
    inbox = Inbox()
    with web_server({"/": inbox}) as address, sending(repository, allow_private_addresses=False):
        job = ended_job(repository, address.replace("127.0.0.1", host))
        told = wait_for(repository, job, WebhookState.FAILED)
    assert "an address inside this network" in str(told.deliveries[0].error)
    assert inbox.messages == []


def test_a_receiver_that_is_gone_is_not_asked_again(repository: Repository) -> None:
    inbox = Inbox(410)
    with web_server({"/": inbox}) as address, sending(repository):
        told = wait_for(repository, ended_job(repository, address), WebhookState.FAILED)
    assert [one.status for one in told.deliveries] == [410]


def test_a_receiver_that_is_away_is_asked_again_later(repository: Repository) -> None:
    with web_server({}) as address:
        pass
    with sending(repository):
        told = wait_for_attempts(repository, ended_job(repository, address), 1)
    assert told.state is WebhookState.WAITING
    assert "cannot be reached" in str(told.deliveries[0].error)


def test_several_senders_tell_each_receiver_once(repository: Repository) -> None:
    inbox = Inbox()
    with web_server({"/": inbox}) as address, sending(repository), sending(repository), sending(repository):
        jobs = [ended_job(repository, address) for _ in range(20)]
        for job in jobs:
            wait_for(repository, job, WebhookState.DELIVERED)
    told = [verify_webhook(body, headers, SECRET).id for body, headers in inbox.messages]
    assert sorted(told) == sorted(job.id for job in jobs)


SENDER = """
import sys, threading
from worker.database import create_engine
from worker.repository import Repository
from worker.settings import Settings
from worker.webhooks import WebhookSender

url, secret = sys.argv[1:]
settings = Settings(
    database_url=url, store_url="file:///unused", webhook_secret=secret, allow_private_addresses=True,
    webhook_timeout_seconds=300,
)
WebhookSender(Repository(create_engine(url)), settings).start()
threading.Event().wait()
"""


def test_a_sender_killed_in_the_middle_is_made_up_for(repository: Repository, engine: Engine) -> None:
    heard = threading.Event()
    inbox = Inbox()

    def hang_once(request: BaseHTTPRequestHandler) -> None:
        if heard.is_set():
            inbox(request)
            return
        body = request.rfile.read(int(request.headers["content-length"]))
        inbox.messages.append((body, dict(request.headers)))
        heard.set()
        request.connection.recv(1)

    with web_server({"/": hang_once}) as address:
        job = ended_job(repository, address)
        url = engine.url.render_as_string(hide_password=False)
        with subprocess.Popen([sys.executable, "-c", SENDER, url, SECRET], cwd=REPOSITORY) as process:
            assert heard.wait(60)
            process.send_signal(signal.SIGKILL)
        with sending(repository):
            assert webhook(repository, job).deliveries == ()
            age(engine, "jobs", "webhook_due_at", 360)
            told = wait_for(repository, job, WebhookState.DELIVERED)
    assert [(one.attempt, one.status) for one in told.deliveries] == [(2, 200), (1, None)]
    assert "ended before it knew" in str(told.deliveries[1].error)
    (first, second) = [headers[DELIVERY] for _, headers in inbox.messages]
    assert first == second


def test_a_stop_waits_for_what_is_under_way(repository: Repository) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer_late(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        go_on.wait(60)
        status(200)(request)

    with web_server({"/": answer_late}) as address, sending(repository) as sender:
        job = ended_job(repository, address)
        assert asked.wait(60)
        stopping = threading.Thread(target=sender.stop)
        stopping.start()
        go_on.set()
        stopping.join(60)
        assert webhook(repository, job).state is WebhookState.DELIVERED


def test_without_a_secret_nothing_is_sent_and_no_job_may_ask_for_it(repository: Repository) -> None:
    with web_server({"/": Inbox()}) as address, sending(repository, webhook_secret=None):
        ended_job(repository, address)
    assert len(repository.webhooks.claim(lease_seconds=60, limit=10)) == 1, "nobody took it"
    with pytest.raises(WebhooksDisabled, match="GLM4V_WEBHOOK_SECRET"):
        settings(webhook_secret=None).require_webhook_secret()
    assert settings().require_webhook_secret() == SECRET
