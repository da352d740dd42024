from __future__ import annotations

import asyncio
import inspect
import ssl
import threading
from typing import Any

import pytest

import glm4v_client
from glm4v_client import (
    AsyncEmbeddingClient,
    AsyncItemHandle,
    AsyncJobHandle,
    EmbeddingClient,
    InvalidArgument,
    ItemHandle,
    JobHandle,
    RetryPolicy,
    ServiceTimeout,
    ServiceUnreachable,
    Unauthorized,
    UnexpectedAnswer,
)
from tests.fake_service import Cut, Dropped, FakeService, Refused
from tests.servers import free_port

ONCE = RetryPolicy(attempts=1)


@pytest.fixture(params=[EmbeddingClient, AsyncEmbeddingClient])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def workers(kind: Any, url: str | None = None, **arguments: Any) -> Any:
    """One call of either client."""
    if kind is EmbeddingClient:
        with kind(url, **arguments) as client:
            return client.workers()

    async def call() -> Any:
        async with kind(url, **arguments) as client:
            return await client.workers()

    return asyncio.run(call())


def test_address_and_key_are_given_or_come_from_the_environment(
    kind: Any, service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    service.key = "secret"
    monkeypatch.setenv("GLM4V_URL", service.url + "/")
    monkeypatch.setenv("GLM4V_API_KEY", "another")
    with pytest.raises(Unauthorized, match="unauthorized: What to do"):
        workers(kind, retry=ONCE)
    assert len(workers(kind, api_key="secret")) == 1
    monkeypatch.setenv("GLM4V_API_KEY", "secret")
    assert len(workers(kind, service.url)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "which service.*GLM4V_URL"),
        ({"url": "localhost:8000"}, "localhost:8000 is not a service's URL: write it like http"),
        ({"url": "ftp://x"}, "ftp://x is not a service's URL"),
        ({"url": "http://"}, "http:// is not a service's URL"),
        ({"url": "http://[::1"}, "is not a service's URL"),
        ({"url": "http://x", "api_key": "line\nbreak"}, "the API key holds characters"),
        ({"url": "http://x", "api_key": "schlüssel"}, "the API key holds characters"),
    ],
)
def test_what_cannot_be_a_service_is_said_at_once(kind: Any, arguments: dict[str, Any], sentence: str):
    with pytest.raises(InvalidArgument, match=sentence):
        kind(**arguments)


def test_nobody_there_is_a_sentence(kind: Any):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceUnreachable, match=rf"^{url} cannot be reached .* check the URL") as caught:
        workers(kind, url, retry=ONCE)
    assert not caught.value.was_sent


def test_silence_is_a_timeout(kind: Any, service: FakeService):
    with service.lock:
        # The service answers nobody while it is locked.
        with pytest.raises(ServiceTimeout, match="did not answer in time") as caught:
            workers(kind, service.url, timeout=0.2, retry=ONCE)
    assert isinstance(caught.value, TimeoutError)


def test_a_broken_answer_is_an_error_that_says_the_request_was_sent(kind: Any, service: FakeService):
    service.fail("GET", Dropped(after_effect=True), Cut(10))
    for _ in range(2):
        with pytest.raises(ServiceUnreachable) as caught:
            workers(kind, service.url, retry=ONCE)
        assert caught.value.was_sent


def test_something_else_that_answers_is_noticed(kind: Any, service: FakeService):
    service.fail("GET", Refused(200), Refused(404))
    with pytest.raises(UnexpectedAnswer, match="GET /v1/workers was answered by something else"):
        workers(kind, service.url)
    with pytest.raises(
        glm4v_client.NotFound, match=r"http_404: 127\.0\.0\.1 answered 404 Not Found: <html>proxy</html>"
    ):
        workers(kind, service.url)


def test_a_redirect_takes_no_key_to_another_host(kind: Any, service: FakeService):
    elsewhere = service.url.replace("127.0.0.1", "localhost")
    service.fail("GET /v1/workers", Refused(307, {"location": f"{elsewhere}/v1/queues", "content-length": "0"}, b""))
    with pytest.raises(UnexpectedAnswer):
        workers(kind, service.url, api_key="secret")
    assert [headers.get("authorization") for headers in service.headers] == ["Bearer secret", None]


def test_many_threads_share_a_blocking_client(service: FakeService, certificates: ssl.SSLContext):
    with EmbeddingClient(service.url, verify=certificates) as client:
        jobs: list[Any] = []
        threads = [
            threading.Thread(target=lambda place=place: jobs.append(client.submit([f"s3://m/{place}"]).wait()))
            for place in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({job.id for job in jobs}) == 8


def test_a_blocking_client_works_inside_a_running_loop_as_in_a_notebook(service: FakeService):
    async def cell() -> int:
        with EmbeddingClient(service.url) as client:
            job = client.submit(["s3://m/a"])
            return len([*job.watch(), *job.items()])

    assert asyncio.run(cell()) == 3


@pytest.mark.parametrize(
    ("face", "inner"),
    [(EmbeddingClient, AsyncEmbeddingClient), (JobHandle, AsyncJobHandle), (ItemHandle, AsyncItemHandle)],
)
def test_both_faces_have_the_same_methods_arguments_and_documentation(face: type, inner: type):
    def methods(kind: type) -> dict[str, Any]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: method for name, method in found if not name.startswith("_")}

    assert methods(face).keys() == methods(inner).keys()
    for name, method in methods(face).items():
        twin = methods(inner)[name]
        assert inspect.signature(method).parameters == inspect.signature(twin).parameters
        assert method.__doc__ == twin.__doc__
        assert not inspect.iscoroutinefunction(inspect.unwrap(method))
    assert inspect.signature(JobHandle.items).return_annotation == "Iterator[ItemHandle]"
    assert inspect.signature(EmbeddingClient.submit).return_annotation == "JobHandle"


def test_every_public_name_can_be_imported_and_is_listed():
    for name in glm4v_client.__all__:
        assert getattr(glm4v_client, name).__name__ == name
    assert glm4v_client.__all__ == sorted(glm4v_client.__all__)
    assert set(dir(glm4v_client)) == set(glm4v_client.__all__)
    with pytest.raises(AttributeError, match="EmbedingClient"):
        _ = glm4v_client.EmbedingClient
