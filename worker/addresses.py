"""Which network addresses a reference may make this process connect to.

A worker sits inside somebody's network. A URL, or a redirect, or a DNS answer must not turn it into a way in.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

import httpcore

from worker.errors import ForbiddenAddress, NameNotResolved

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: When the fetch that runs in this thread must be over, in seconds of `time.monotonic`.
DEADLINE: ContextVar[float] = ContextVar("DEADLINE")

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IPAddress) -> bool:
    """Say whether anybody on the internet could reach this address, looking through IPv4 carried inside IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(carried)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Return the addresses of a host that may be connected to, at least one.

    Raises:
        NameNotResolved: DNS does not know the name.
        ForbiddenAddress: every address of the host is private, loopback, link-local or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameNotResolved(
            f"The host {host!r} has no address: check the spelling, or this machine's DNS."
        ) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    allowed = [address for address in addresses if allow_private or is_public(_parse(address))]
    if not allowed:
        raise ForbiddenAddress(
            f"The host {host!r} is {addresses[0]}, an address inside this network: give a public one,"
            " or let the operator set GLM4V_ALLOW_PRIVATE_ADDRESSES=true."
        )
    return allowed


def _parse(address: str) -> IPAddress:
    return ipaddress.ip_address(address.partition("%")[0])


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork(httpcore.NetworkBackend):
    """Connects to the very address that was checked: no second DNS answer can differ from the first."""

    allow_private: bool

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        network = httpcore.SyncBackend()
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in resolve(host, port, allow_private=self.allow_private):
            try:
                stream = network.connect_tcp(address, port, remaining(timeout), local_address, socket_options)
                return DeadlineStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure


class DeadlineStream(httpcore.NetworkStream):
    """A connection on which no wait outlasts the fetch, however slowly the other side drips its bytes."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, remaining(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, remaining(timeout)))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def remaining(timeout: float | None) -> float:
    """Return the seconds that one network operation may take.

    Raises:
        httpcore.ReadTimeout: the fetch is over its time.
    """
    left = DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the whole fetch took too long")
    return left if timeout is None else min(timeout, left)
