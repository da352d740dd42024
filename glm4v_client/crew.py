"""Several calls at once, a bounded number of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Crew(Protocol):
    """Work that is under way: threads or tasks, as a network has them."""

    def begin(self, work: Callable[[], Awaitable[Any]]) -> None: ...

    def __len__(self) -> int:
        """How many were begun and not taken."""
        ...

    async def take(self) -> Any:
        """The result of one that has ended, or what it raised; waits until there is one."""
        ...

    async def disband(self) -> None:
        """Stop what is still under way, and wait for it."""
        ...


async def each(
    crew: Crew,
    function: Callable[[Argument], Awaitable[Result]],
    arguments: AsyncIterator[Argument],
    *,
    concurrency: int,
) -> AsyncGenerator[Result, None]:
    """Results of `function`, at most `concurrency` calls at once, in the order in which they end.

    When one raises, or nobody wants more, the others are stopped and waited for.
    """
    try:
        async for argument in arguments:
            crew.begin(partial(function, argument))
            if len(crew) == concurrency:
                yield await crew.take()
        while len(crew):
            yield await crew.take()
    finally:
        await crew.disband()
