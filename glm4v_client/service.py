"""A service's calls: requests made, sent, repeated where that is safe, and answered by records or errors."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from glm4v_client.errors import ClientError, UnexpectedAnswer
from glm4v_client.file_body import FileBody
from glm4v_client.network import Network
from glm4v_client.problems import service_error
from glm4v_client.records import Page
from glm4v_client.retrying import Attempts, RetryPolicy

#: Entries fetched at once. A clip's item lists its frames, so that a page of them may be megabytes.
PAGE = 200

Record = TypeVar("Record", bound=BaseModel)


class Service:
    """What the client knows of its service."""

    def __init__(self, network: Network, *, retry: RetryPolicy) -> None:
        self.network = network
        self._retry = retry

    async def call(self, method: str, path: str, answer: type[Record], **request: Any) -> Record:
        """Make a call and read its answer.

        Args:
            request: as `content` takes it.

        Raises:
            ClientError: it failed, also after repetitions.
        """
        content = await self.content(method, path, **request)
        try:
            return answer.model_validate_json(content)
        except ValidationError as error:
            raise UnexpectedAnswer(
                f"{method} {path} was answered by something else than a {answer.__name__}:"
                " check the URL, and that client and service are of the same version"
            ) from error

    async def content(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        body: BaseModel | FileBody | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> bytes:
        """Make a call and give the bytes of its answer.

        Args:
            repeatable: doing it twice is as good as once.
        """
        attempts = self.attempts()
        while True:
            try:
                async with self.open(method, path, params=params, body=body, headers=headers) as response:
                    return await self.network.read(response)
            except ClientError as error:
                await self.pause(attempts, error, repeatable=repeatable)

    def attempts(self) -> Attempts:
        return Attempts(self._retry)

    async def pause(self, attempts: Attempts, error: ClientError, *, repeatable: bool = True) -> None:
        """Wait until the next attempt, or raise `error` where there is none."""
        delay = attempts.delay(error, repeatable=repeatable, chance=random.random())
        if delay is None:
            raise error
        await self.network.sleep(delay)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        body: BaseModel | FileBody | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request once; the answer's body is read inside the block.

        Raises:
            ServiceUnreachable: there is no connection.
            ServiceError: the answer is 400 or more.
        """
        request = self._request(method, path, params, body, dict(headers or {}))
        if read_timeout is not None:
            request.extensions["timeout"]["read"] = read_timeout
        response = await self.network.send(request)
        try:
            if response.status_code >= 400:
                await self.network.read(response)
                raise service_error(response)
            yield response
        finally:
            await self.network.close(response)

    async def pages(
        self, path: str, page: type[Page[Record]], params: Mapping[str, str | int | None] | None = None
    ) -> AsyncGenerator[Record, None]:
        """The entries of a list, fetched a page at a time."""
        cursor: str | None = None
        while True:
            some = await self.call("GET", path, page, params={"limit": PAGE, **(params or {}), "cursor": cursor})
            for entry in some.entries:
                yield entry
            cursor = some.next_cursor
            if cursor is None:
                return

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int | None] | None,
        body: BaseModel | FileBody | None,
        headers: dict[str, str],
    ) -> httpx.Request:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        if isinstance(body, BaseModel):
            headers["content-type"] = "application/json"
            content = body.model_dump_json(exclude_none=True)
            return self.network.http.build_request(method, path, params=given, content=content, headers=headers)
        if body is not None:
            headers["content-length"] = str(body.size)
        request = self.network.http.build_request(method, path, params=given, headers=headers)
        if body is not None:
            request.stream = body
        return request
