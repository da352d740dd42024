"""Who is asking. With keys: whoever has one. Without: programs of this machine, which no web page can pose as."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import RequestProblem
from worker.settings import ApiKey

#: Asked by supervisors and collectors, which have no key; what they answer is no secret.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

#: The looks of the pages, that of the page which says that a key is missing among them.
_LOOKS = "/static/"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

#: What a proxy adds: behind one, everybody comes from its address.
_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

#: The owner of jobs where there are no keys; the embedded run's jobs have the same.
NOBODY = ""


class Guard:
    """Lets requests through whose sender is known, and writes the key's name into `scope["state"]["owner"]`.

    Before the application reads a byte of the body.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._keys = tuple(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            headers = Headers(scope=scope)
            refuse_other_sites(scope["method"], headers)
            if self._keys:
                owner = self._owner(headers)
            else:
                require_this_machine(scope, headers)
                owner = NOBODY
            scope.setdefault("state", {})["owner"] = owner
        await self._app(scope, receive, send)

    def _owner(self, headers: Headers) -> str:
        digest = hashlib.sha256((_presented(headers) or "").encode()).hexdigest()
        # Each is compared, and none to its first difference only: the time taken tells nothing.
        owners = [key.name for key in self._keys if hmac.compare_digest(digest, key.sha256)]
        if not owners:
            raise RequestProblem(
                401,
                "unauthorized",
                "This service needs a key: send `Authorization: Bearer KEY`, or the key as the password of Basic.",
                # What browsers ask a password for comes first: Chromium reads no further.
                headers={"WWW-Authenticate": 'Basic realm="glm4v-embed", Bearer realm="glm4v-embed"'},
            )
        return owners[0]


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(_LOOKS)


def refuse_other_sites(method: str, headers: Headers) -> None:
    """A page of another site must not change anything with what the browser keeps for ours.

    Raises:
        RequestProblem: this is a page of another site.
    """
    if method in _SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_other = site in ("cross-site", "same-site")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        is_other = True
    if is_other:
        raise RequestProblem(403, "cross_site", "A page of another site may not do this: open this service's own page.")


def require_this_machine(scope: Scope, headers: Headers) -> None:
    """Loopback by address, and by the name that was asked for: a name of another site may lead to 127.0.0.1 too.

    Raises:
        RequestProblem: the client is elsewhere, behind a proxy, or was sent here by a name that is not this machine's.
    """
    client = scope.get("client")
    is_direct = client is not None and _is_loopback(client[0]) and not any(name in headers for name in _PROXIED)
    if not is_direct or not _is_loopback(_host(headers)):
        raise RequestProblem(
            403,
            "loopback_only",
            "This service has no keys, so it answers only to http://localhost and http://127.0.0.1 on its own machine:"
            " set GLM4V_API_KEYS to let others in (`python -m api.keys NAME` makes one).",
        )


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _presented(headers: Headers) -> str | None:
    """The key that a request brings; None if it brings none."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
