from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from tests.web_server import Handler, body, redirect, status, web_server
from worker.download import Downloader
from worker.errors import (
    EmbedError,
    EmptyFile,
    FetchTimeout,
    Forbidden,
    ForbiddenAddress,
    HostUnreachable,
    HttpStatus,
    HttpUnavailable,
    NotFound,
    TooLarge,
    TooManyRedirects,
    UnsupportedSource,
    WorkerStopping,
)
from worker.media import Fetcher

MakeFetcher = Callable[..., Fetcher]


@pytest.fixture
def make_fetcher() -> Iterator[MakeFetcher]:
    downloaders: list[Downloader] = []

    def make(
        *, allow_private: bool = True, seconds: float = 10, max_bytes: int = 10_000, silence: float = 5
    ) -> Fetcher:
        downloader = Downloader(
            allow_private=allow_private,
            max_redirects=3,
            timeout_seconds=seconds,
            connect_timeout_seconds=2,
            read_timeout_seconds=silence,
        )
        downloaders.append(downloader)
        return Fetcher(remote={"http": downloader, "https": downloader}, file_roots=(), max_bytes=max_bytes)

    yield make
    for downloader in downloaders:
        downloader.close()


def nothing() -> None:
    """Everybody still wants it."""


def fetch_error(fetcher: Fetcher, url: str) -> EmbedError:
    with pytest.raises(EmbedError) as caught, fetcher.fetch(url, check=nothing):
        pass
    return caught.value


def test_the_bytes_of_a_reply_are_at_hand_under_their_digest(make_fetcher: MakeFetcher) -> None:
    data = bytes(range(256)) * 30
    with (
        web_server({"/photo": body(data)}) as address,
        make_fetcher().fetch(f"{address}/photo", check=nothing) as media,
    ):
        assert media.path.read_bytes() == data
        assert (media.sha256, media.size) == (hashlib.sha256(data).hexdigest(), len(data))
        assert media.head == data[:32]
        media.check_unchanged()


def test_redirects_are_followed_to_the_end(make_fetcher: MakeFetcher) -> None:
    paths = {"/a": redirect("/b", 301), "/b": redirect("c?d=1", 307), "/c": body(b"here")}
    with web_server(paths) as address, make_fetcher().fetch(f"{address}/a", check=nothing) as media:
        assert media.path.read_bytes() == b"here"


def cut_short(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("content-length", "1000")
    request.end_headers()
    request.wfile.write(b"only this")
    request.close_connection = True


def endless(request: BaseHTTPRequestHandler) -> None:
    """No length is announced."""
    request.send_response(200)
    request.send_header("connection", "close")
    request.end_headers()
    request.close_connection = True
    try:
        for _ in range(1000):
            request.wfile.write(bytes(1000))
    except ConnectionError:
        return


@pytest.mark.parametrize(
    ("handler", "kind", "words"),
    [
        pytest.param(status(404), NotFound, "404", id="404"),
        pytest.param(status(410), NotFound, "410", id="410"),
        pytest.param(status(401), Forbidden, "401", id="401"),
        pytest.param(status(403), Forbidden, "403", id="403"),
        pytest.param(status(429), HttpUnavailable, "429", id="429 is transient"),
        pytest.param(status(500), HttpUnavailable, "500", id="500 is transient"),
        pytest.param(status(503), HttpUnavailable, "503", id="503 is transient"),
        pytest.param(status(418), HttpStatus, "418", id="another refusal"),
        pytest.param(status(304), HttpStatus, "304", id="a redirect to nowhere"),
        pytest.param(body(b""), EmptyFile, "no bytes", id="no bytes"),
        pytest.param(body(bytes(10_001)), TooLarge, "10,001", id="too large, and says so"),
        pytest.param(endless, TooLarge, "GLM4V_MAX_SOURCE_BYTES", id="too large without a word"),
        pytest.param(cut_short, HostUnreachable, "cannot be reached", id="cut short"),
        pytest.param(redirect("/it"), TooManyRedirects, "3 times", id="a circle"),
        pytest.param(redirect("ftp://127.0.0.1/x"), UnsupportedSource, "ftp://", id="a redirect to another scheme"),
        pytest.param(redirect("file:///etc/passwd"), UnsupportedSource, "file://", id="a redirect to a file"),
    ],
)
def test_a_reply_without_the_media_says_why(
    make_fetcher: MakeFetcher, handler: Handler, kind: type[EmbedError], words: str
) -> None:
    with web_server({"/it": handler}) as address:
        error = fetch_error(make_fetcher(), f"{address}/it?signature=secret")
    assert type(error) is kind
    assert words in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"])
def test_an_address_inside_this_network_is_refused_however_it_is_written(make_fetcher: MakeFetcher, host: str) -> None:
    error = fetch_error(make_fetcher(allow_private=False), f"http://{host}:9/")
    assert type(error) is ForbiddenAddress


def test_a_redirect_into_this_network_is_refused(make_fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host is public as far as our check can tell; where it redirects to is not."""
    with web_server({"/public": redirect("http://169.254.169.254/latest/"), "/data": body(b"x")}) as address:
        monkeypatch.setattr("worker.addresses.is_public", lambda ip: str(ip) == "127.0.0.1")
        fetcher = make_fetcher(allow_private=False)
        with fetcher.fetch(f"{address}/data", check=nothing) as media:
            assert media.size == 1
        assert type(fetch_error(fetcher, f"{address}/public")) is ForbiddenAddress


def test_a_name_is_resolved_once_for_the_check_and_the_connection(
    make_fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a second answer could name another address, so no second question may be asked."""
    questions: list[str] = []
    real = socket.getaddrinfo

    def answer(host: str, *args: object, **kwargs: object) -> object:
        if host != "rebinding.example":
            return real(host, *args, **kwargs)  # type: ignore[arg-type]
        questions.append(host)
        return real("127.0.0.1" if len(questions) == 1 else "192.0.2.1", *args, **kwargs)  # type: ignore[arg-type]

    with web_server({"/x": body(b"x")}) as address:
        monkeypatch.setattr(socket, "getaddrinfo", answer)
        port = address.rpartition(":")[2]
        with make_fetcher().fetch(f"http://rebinding.example:{port}/x", check=nothing) as media:
            assert media.size == 1
    assert questions == ["rebinding.example"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_server_whose_certificate_is_trusted_is_read(
    make_fetcher: MakeFetcher,
    authority: trustme.CA,
    tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with web_server({"/x": body(b"secret")}, tls=tls) as address:
        with make_fetcher().fetch(f"{address}/x", check=nothing) as media:
            assert media.path.read_bytes() == b"secret"


def test_a_server_whose_certificate_is_not_trusted_is_not_read(make_fetcher: MakeFetcher, tls: ssl.SSLContext) -> None:
    with web_server({"/x": body(b"secret")}, tls=tls) as address:
        error = fetch_error(make_fetcher(), f"{address}/x")
    assert type(error) is HostUnreachable
    assert "certificate" in error.message


def test_a_server_that_never_shakes_hands_is_given_up(make_fetcher: MakeFetcher) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = fetch_error(make_fetcher(seconds=0.5), f"https://127.0.0.1:{silent.getsockname()[1]}/")
    assert type(error) is FetchTimeout


def test_a_port_where_nobody_listens_is_unreachable(make_fetcher: MakeFetcher) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = fetch_error(make_fetcher(), f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert type(error) is HostUnreachable


def test_a_silent_server_is_given_up(make_fetcher: MakeFetcher) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = fetch_error(make_fetcher(silence=0.2), f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert type(error) is FetchTimeout


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_cannot_keep_a_thread_beyond_the_whole_time(make_fetcher: MakeFetcher, where: str) -> None:
    ended = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"content-length: 99\r\n\r\n" if where == "body" else b""))
        try:
            while not ended.wait(0.05):
                request.wfile.write(b"x" if where == "body" else b"x-drip: 1\r\n")
        except ConnectionError:
            return

    with web_server({"/drip": drip}) as address:
        error = fetch_error(make_fetcher(seconds=0.5), f"{address}/drip")
        ended.set()
    assert type(error) is FetchTimeout


def test_a_download_that_nobody_wants_any_more_is_stopped(make_fetcher: MakeFetcher) -> None:
    def unwanted() -> None:
        raise WorkerStopping

    with web_server({"/photo": body(b"photo")}) as address, pytest.raises(WorkerStopping):
        with make_fetcher().fetch(f"{address}/photo", check=unwanted):
            pass


@pytest.mark.parametrize("url", ["http://", "http:///path", "http://[::1/x"])
def test_what_is_no_url_is_an_unsupported_source(make_fetcher: MakeFetcher, url: str) -> None:
    assert type(fetch_error(make_fetcher(), url)) is UnsupportedSource


def test_an_error_shows_neither_password_nor_signature(make_fetcher: MakeFetcher) -> None:
    error = fetch_error(make_fetcher(), "http://user:hidden@127.0.0.1:1/photo.jpg?token=hidden#hidden")
    assert "hidden" not in error.message
    assert "http://127.0.0.1:1/photo.jpg" in error.message
