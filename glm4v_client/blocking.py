"""Methods that block, made of coroutine methods: the same names, arguments, types and documentation.

The coroutines must wait for nothing but a `BlockingNetwork`, whose waits are over when they return.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def complete(awaitable: Awaitable[T]) -> T:
    """Run a coroutine to its end, which takes one step.

    Raises:
        RuntimeError: it waits for an event loop.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a blocking client was given something that waits for an event loop: use AsyncEmbeddingClient")


def iterate(values: AsyncGenerator[T, None]) -> Iterator[T]:
    """The values of an asynchronous generator, each computed when it is asked for."""
    try:
        while True:
            try:
                value = complete(anext(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        complete(values.aclose())


@overload
def blocking(function: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]: ...


@overload
def blocking(
    function: Callable[Concatenate[Any, P], Awaitable[T]], face: Callable[[T], R]
) -> Callable[Concatenate[Any, P], R]: ...


def blocking(function: Callable[..., Awaitable[Any]], face: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """A method of `self` that blocks, made of a coroutine method of `self._inner`.

    Args:
        face: what the result is shown as.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = complete(function(self._inner, *args, **kwargs))
        return result if face is None else face(result)

    return _documented(method, function, face)


@overload
def iterating(
    function: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Any, P], Iterator[T]]: ...


@overload
def iterating(
    function: Callable[Concatenate[Any, P], AsyncGenerator[T, None]], face: Callable[[T], R]
) -> Callable[Concatenate[Any, P], Iterator[R]]: ...


def iterating(
    function: Callable[..., AsyncGenerator[Any, None]], face: Callable[[Any], Any] | None = None
) -> Callable[..., Iterator[Any]]:
    """A method that gives an iterator, made of one that gives an asynchronous generator."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        values = iterate(function(self._inner, *args, **kwargs))
        return values if face is None else map(face, values)

    return _documented(method, function, face)


def _documented(method: Callable[..., Any], function: Callable[..., Any], face: Any) -> Callable[..., Any]:
    functools.update_wrapper(method, function)
    # What wraps a coroutine function would be taken for one.
    del method.__dict__["__wrapped__"]
    signature = inspect.signature(function)
    returned = signature.return_annotation.replace("AsyncGenerator[", "Iterator[").replace(", None]", "]")
    if face is not None:
        returned = returned.replace(f"Async{face.__name__}", face.__name__)
    method.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return method
