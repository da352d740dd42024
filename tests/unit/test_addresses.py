from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from worker.addresses import is_public, resolve
from worker.errors import ForbiddenAddress, NameNotResolved


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::1", "::", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:c0a8:101::", "64:ff9b::a00:1", "2001::1",
    ],
)  # fmt: skip
def test_an_address_inside_some_network_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


def test_of_a_host_with_several_addresses_only_the_public_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "10.0.0.1", "8.8.8.8", "8.8.8.8")

    assert resolve("mixed.example", 80, allow_private=False) == ["8.8.8.8"]
    assert resolve("mixed.example", 80, allow_private=True) == ["10.0.0.1", "8.8.8.8"]


def test_a_name_that_means_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "169.254.169.254")

    with pytest.raises(ForbiddenAddress, match=r"metadata.example.*169\.254\.169\.254"):
        resolve("metadata.example", 80, allow_private=False)


def test_a_name_without_an_address_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    with pytest.raises(NameNotResolved, match=r"nowhere\.example"):
        resolve("nowhere.example", 80, allow_private=True)
