"""What the client needs of the outside world.

The client is written once, as coroutines that wait for nothing but a `Network`. There are two: `AsyncNetwork` waits on
asyncio's event loop; every wait of a `BlockingNetwork` is over when it returns, so that its coroutines run to their end
at the first step (`glm4v_client.blocking.complete`) and need no loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import httpx

from glm4v_client.crew import Crew, Result
from glm4v_client.errors import ServiceTimeout, ServiceUnreachable, UnexpectedAnswer

#: Raised before the first byte of a request has left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class Network(Protocol):
    """Requests, time, and several things at once."""

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient: ...

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send and follow redirects; the answer's body is still to be read.

        Raises:
            ServiceUnreachable: or ServiceTimeout.
        """
        ...

    async def read(self, response: httpx.Response) -> bytes:
        """The answer's whole body.

        Raises:
            ServiceUnreachable: it broke off.
        """
        ...

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The answer's body as it arrives.

        Raises:
            ServiceUnreachable: it broke off.
        """
        ...

    async def close(self, response: httpx.Response) -> None: ...

    async def sleep(self, seconds: float) -> None: ...

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call what may wait for a disk."""
        ...

    def crew(self) -> Crew:
        """For what `glm4v_client.crew.each` does at once; good for one use."""
        ...

    async def end(self) -> None:
        """Close every connection."""
        ...


@contextmanager
def http_errors() -> Iterator[None]:
    """Map httpx's errors to the client's own.

    Raises:
        ServiceUnreachable: or ServiceTimeout.
        UnexpectedAnswer: what came is not HTTP as it should be.
    """
    try:
        yield
    except httpx.TimeoutException as error:
        raise ServiceTimeout(
            _sentence(error, "did not answer in time"), was_sent=not isinstance(error, _NOT_SENT)
        ) from error
    except httpx.TransportError as error:
        raise ServiceUnreachable(
            _sentence(error, "cannot be reached"), was_sent=not isinstance(error, _NOT_SENT)
        ) from error
    except httpx.RequestError as error:
        raise UnexpectedAnswer(_sentence(error, "gave no answer of ours")) from error


def _sentence(error: httpx.RequestError, what: str) -> str:
    url = error.request.url
    reason = str(error) or type(error).__name__
    return f"{url.scheme}://{url.netloc.decode()} {what} ({reason}): check the URL and that the service is up"
