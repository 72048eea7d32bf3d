"""Async context managers that end cleanly: exceptions come out as they were raised, and nothing stays in a cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

import trio

__all__ = ["acyclic", "unwrapped_nursery"]

P = ParamSpec("P")
T = TypeVar("T")


def acyclic(make: Callable[P, AbstractAsyncContextManager[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Decorate an `asynccontextmanager` so that an exception of the block does not end in a reference cycle.

    From Python 3.12 on, a finished generator's frame that a traceback still holds refers to the frame that ran it.
    `asynccontextmanager` throws an exception of the block into its generator from a frame whose local is that
    exception: so the exception refers to its traceback, that to the generator's frame, that to the throwing frame, and
    that to the exception. The standard library restores the traceback only if the same exception comes out again. If
    another one comes out (a nursery's group) or none, the cycle keeps all that those frames hold, such as a session or
    a connection, until the garbage collector runs. This decorator restores the traceback in every case.
    """

    @wraps(make)
    def manager(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Acyclic(make(*args, **kwargs))

    return manager


class _Acyclic(AbstractAsyncContextManager[T]):
    def __init__(self, inner: AbstractAsyncContextManager[T]) -> None:
        self._inner = inner

    async def __aenter__(self) -> T:
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            if error is not None:
                error.__traceback__ = trace


@acyclic
@asynccontextmanager
async def unwrapped_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose block's own exception comes out as it is, once all tasks have ended.

    trio wraps an exception of the block in a group, because a task may fail as well; the author of the block expects
    the exception itself. It does not cancel the tasks: a block that needs that does it in a `finally`.
    """
    raised: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except Exception as error:  # raised again below, past the nursery
                raised = error
        if raised is not None:
            raise raised
    finally:
        del raised  # its traceback has this frame: a cycle
