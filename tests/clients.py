"""Both clients behind one face, so that a test is written once and run with each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from glm4v_client import AsyncItemHandle, AsyncJobHandle

_HANDLES = (AsyncJobHandle, AsyncItemHandle)


class OnLoop:
    """An asynchronous client or handle, each of whose calls is run on an event loop until it is done."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        return self._method(attribute) if callable(attribute) else attribute

    def _method(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if inspect.isasyncgen(result):
                return self._iterate(result)
            return self._shown(self._runner.run(result) if inspect.iscoroutine(result) else result)

        return call

    def _iterate(self, values: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(values)

        try:
            while True:
                try:
                    yield self._shown(self._runner.run(step()))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(values.aclose())

    def _shown(self, value: Any) -> Any:
        return OnLoop(value, self._runner) if isinstance(value, _HANDLES) else value
