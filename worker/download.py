"""HTTP downloads from hosts that nobody vouches for: bounded in bytes, time, redirects and addresses."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore
import httpx

from worker.addresses import DEADLINE, CheckedNetwork
from worker.errors import (
    FetchTimeout,
    Forbidden,
    HostUnreachable,
    HttpStatus,
    HttpUnavailable,
    NotFound,
    TooManyRedirects,
    UnsupportedSource,
)

_CHUNK = 1 << 18
_TRY_AGAIN_LATER = {408, 425, 429}


class Downloader:
    """Keeps connections open between downloads. Safe to use from many threads."""

    def __init__(
        self,
        *,
        allow_private: bool,
        max_redirects: int,
        timeout_seconds: float,
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._max_redirects = max_redirects
        # Proxies of the environment would do the name lookup themselves, behind the address check.
        self._client = httpx.Client(
            transport=CheckedTransport(allow_private=allow_private),
            timeout=httpx.Timeout(read_timeout_seconds, connect=connect_timeout_seconds, pool=None),
            trust_env=False,
            headers={"accept": "image/*, video/*, */*;q=0.5", "accept-encoding": "identity"},
        )

    @contextmanager
    def open(self, url: str) -> Iterator[Download]:
        """Follow redirects to a reply with a body, and hand over its chunks.

        Raises:
            EmbedError: any of the reasons in worker.errors for which a reference cannot be fetched.
        """
        token = DEADLINE.set(time.monotonic() + self._timeout_seconds)
        try:
            with _as_our_errors(url), self._follow(url) as response:
                yield Download(response)
        finally:
            DEADLINE.reset(token)

    @contextmanager
    def _follow(self, url: str) -> Iterator[httpx.Response]:
        location = _parse(url)
        for _ in range(self._max_redirects + 1):
            with self._client.stream("GET", location) as response:
                if not response.has_redirect_location:
                    _check_status(response)
                    yield response
                    return
                location = _parse(str(location.join(response.headers["location"])))
        raise TooManyRedirects(
            f"{_shown(url)} redirects more than {self._max_redirects} times: give the address it ends at."
        )

    def close(self) -> None:
        self._client.close()


class Download:
    """The body of one reply."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def announced_bytes(self) -> int | None:
        """What the server says it will send, if it says so."""
        length = self._response.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    def chunks(self) -> Iterator[bytes]:
        return self._response.iter_bytes(_CHUNK)


class CheckedTransport(httpx.BaseTransport):
    """httpx over a connection pool whose network refuses addresses. httpx itself offers no way to give it one."""

    def __init__(self, *, allow_private: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=None,
            max_keepalive_connections=32,
            keepalive_expiry=15,
            network_backend=CheckedNetwork(allow_private=allow_private),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        reply = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(reply.status, headers=reply.headers, stream=_Body(reply), extensions=reply.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, reply: httpcore.Response) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()


def _parse(url: str) -> httpx.URL:
    try:
        location = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UnsupportedSource(f"{_shown(url)} is not a usable URL: {error}.") from error
    if location.scheme not in ("http", "https"):
        raise UnsupportedSource(f"{_shown(url)} leads to {location.scheme}://, which a web address may not do.")
    if not location.host:
        raise UnsupportedSource(f"{_shown(url)} names no host: write https://host/path.")
    return location


def _check_status(response: httpx.Response) -> None:
    status, shown = response.status_code, _shown(str(response.url))
    if response.is_success:
        return
    said = f"{shown} answers {status} {response.reason_phrase}".rstrip()
    if status in (404, 410):
        raise NotFound(f"{said}: check the address.")
    if status in (401, 402, 403, 407, 451):
        raise Forbidden(f"{said}: give a URL that needs no login, for example a signed one that is still valid.")
    if status >= 500 or status in _TRY_AGAIN_LATER:
        raise HttpUnavailable(f"{said}: the server cannot deliver it at the moment.")
    raise HttpStatus(f"{said}: open it in a browser to see what it wants.")


@contextmanager
def _as_our_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise FetchTimeout(f"{_shown(url)} took too long to send its bytes: {error or 'no answer'}.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError, OSError) as error:
        raise HostUnreachable(f"{_shown(url)} cannot be reached: {error or type(error).__name__}.") from error


def _shown(url: str) -> str:
    """A URL as it may appear in a log: without the password and the signature that it may carry."""
    address = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
