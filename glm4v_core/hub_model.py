"""One revision of a model on the hub: its files, whole or by byte ranges, over connections that break."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx
from huggingface_hub import constants, get_token, hf_hub_url

from glm4v_core.patience import Busy, Patience, Tries
from glm4v_core.weights import CheckpointError

_FIRST_ATTEMPTS = 3
_TIMEOUT = httpx.Timeout(30.0)
#: Answers that say "later": too early, too many requests, and servers in trouble.
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class HubModel:
    """Close it after use. Threads may share one.

    Attributes:
        commit: what the revision was when this was made; every file is read as of then.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        """
        Args:
            endpoint, token: the hub client's own settings (HF_ENDPOINT, HF_TOKEN, `hf auth login`) when None.

        Raises:
            CheckpointError: the hub has no such model or revision, does not give it out, or cannot be reached.
        """
        self.name = name
        self._revision = revision or constants.DEFAULT_REVISION
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._patience = patience or Patience()
        self._client = _client(token or get_token())
        try:
            self.commit, self._files = self._describe()
        except BaseException:
            self.close()
            raise
        self.origin = f"{name}@{self.commit}"

    def close(self) -> None:
        self._client.close()

    def has(self, file: str) -> bool:
        return file in self._files

    def read(self, file: str) -> bytes:
        return self._get(self._url(file), self._patience.tries())

    def stream(self, file: str, begin: int, end: int) -> Iterator[bytes]:
        """Bytes `begin` to `end` of a file. A broken connection goes on where it broke.

        Raises:
            CheckpointError: the hub refuses, is out of reach for too long, or sends something else.
        """
        tries = self._patience.tries()
        while begin < end:
            try:
                with self._open(self._url(file), {"Range": f"bytes={begin}-{end - 1}"}) as response:
                    self._check_range(response, file, begin, end)
                    for chunk in response.iter_raw():
                        if len(chunk) > end - begin:
                            raise CheckpointError(f"the hub sent more of {file} than was asked for")
                        begin += len(chunk)
                        tries.succeeded()
                        yield chunk
                if begin < end:
                    raise Busy("the connection ended early")
            except (Busy, httpx.TransportError) as error:
                tries.wait(error)

    def _describe(self) -> tuple[str, frozenset[str]]:
        """The commit, and the names of its files."""
        if constants.HF_HUB_OFFLINE:
            raise CheckpointError(f"{self.name} is not on this machine, and HF_HUB_OFFLINE forbids asking the hub")
        url = f"{self._endpoint}/api/models/{self.name}/revision/{quote(self._revision, safe='')}"
        # A hub that has not answered once is more often a missing network than a short trouble.
        page = self._get(url, self._patience.tries(_FIRST_ATTEMPTS))
        try:
            description = json.loads(page)
            return str(description["sha"]), frozenset(sibling["rfilename"] for sibling in description["siblings"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._endpoint} does not answer as a hub does: check HF_ENDPOINT; a portal may stand before it"
            ) from error

    def _url(self, file: str) -> str:
        return hf_hub_url(self.name, file, revision=self.commit, endpoint=self._endpoint)

    def _get(self, url: str, tries: Tries) -> bytes:
        while True:
            try:
                with self._open(url, {}) as response:
                    return response.read()
            except (Busy, httpx.TransportError) as error:
                tries.wait(error)

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in _BUSY:
                raise Busy(f"the hub answers {response.status_code}", response.headers)
            if response.status_code not in (200, 206):
                raise CheckpointError(self._refusal(response))
            yield response

    def _refusal(self, response: httpx.Response) -> str:
        code, status = response.headers.get("X-Error-Code"), response.status_code
        if code == "GatedRepo":
            return f"{self.name} is gated: accept its terms on its page, then run `hf auth login`"
        if code == "RevisionNotFound":
            return f"{self.name} has no revision {self._revision!r}"
        if code == "RepoNotFound" or status == 401:
            return (
                f"no directory {self.name}, and the hub has no model of that name that you may read:"
                " check the name; for a private one run `hf auth login`"
            )
        reason = response.headers.get("X-Error-Message") or response.reason_phrase
        return f"the hub refused {self.name}: {status} {reason} for {response.request.url.path}"

    def _check_range(self, response: httpx.Response, file: str, begin: int, end: int) -> None:
        if response.status_code != 206:
            raise CheckpointError(
                f"{response.url.host} does not send parts of files: download the whole of {self.name} with"
                " `hf download` and pass its directory"
            )
        sent = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if sent is None or (int(sent[1]), int(sent[2])) != (begin, end - 1):
            raise CheckpointError(
                f"the hub sent {response.headers.get('Content-Range')!r} of {file}, not bytes {begin}-{end - 1}:"
                " the file is shorter than its header says"
            )


def _client(token: str | None) -> httpx.Client:
    headers = {"User-Agent": "glm4v-embed", "Accept-Encoding": "identity"}
    if token is not None:
        # Left behind by httpx on a redirect to another host, as to the servers that hold the files.
        headers["Authorization"] = f"Bearer {token}"
    return httpx.Client(headers=headers, follow_redirects=True, timeout=_TIMEOUT)
