"""Where a service is and how to talk to it: what both clients are constructed with."""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from typing import Any

import httpx

from glm4v_client.errors import InvalidArgument
from glm4v_client.network import Network
from glm4v_client.retrying import RetryPolicy
from glm4v_client.service import Service


class Connection(ABC):
    """A service over the network that a subclass makes."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """
        Args:
            url: of the service, without a path of the API; $GLM4V_URL if not given.
            api_key: $GLM4V_API_KEY if not given; a service on this machine may need none.
            timeout: seconds of silence that end a request.
            retry: when a call is made again.
            verify: as httpx takes it, for a certificate of your own authority.

        Raises:
            InvalidArgument: there is no URL, or it is not one.
        """
        options = _options(url, api_key=api_key, timeout=timeout, verify=verify)
        self._service = Service(self._network(options), retry=retry or RetryPolicy())

    @staticmethod
    @abstractmethod
    def _network(options: dict[str, Any]) -> Network:
        """
        Args:
            options: of an httpx client, of either kind.
        """


def _options(url: str | None, *, api_key: str | None, timeout: float, verify: ssl.SSLContext | bool) -> dict[str, Any]:
    url = url or os.environ.get("GLM4V_URL")
    key = api_key or os.environ.get("GLM4V_API_KEY")
    if not url:
        raise InvalidArgument("which service? give its URL, for example http://localhost:8000, or set GLM4V_URL")
    if not _is_address(url):
        raise InvalidArgument(f"{url} is not a service's URL: write it like http://localhost:8000")
    if key and not (key.isascii() and key.isprintable()):
        raise InvalidArgument("the API key holds characters that no key has: copy it again")
    headers = {"user-agent": "glm4v-client"} | ({"authorization": f"Bearer {key}"} if key else {})
    return {"base_url": url, "headers": headers, "timeout": timeout, "verify": verify}


def _is_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)
