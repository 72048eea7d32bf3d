"""`acyclic`: an exception of the block leaves it with the traceback that it came with, whatever becomes of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from engine.contexts import acyclic


class Oops(Exception):
    pass


@acyclic
@asynccontextmanager
async def passing(value: int, *, factor: int = 1) -> AsyncIterator[int]:
    """Documented."""
    yield value * factor


@acyclic
@asynccontextmanager
async def hiding() -> AsyncIterator[None]:
    with suppress(Oops):
        yield


@acyclic
@asynccontextmanager
async def replacing() -> AsyncIterator[None]:
    try:
        yield
    except Oops:
        raise KeyError("another") from None


async def test_it_is_the_manager_that_it_goes_over() -> None:
    assert passing.__doc__ == "Documented."
    async with passing(3, factor=2) as six:
        assert six == 6
    error = Oops()
    with pytest.raises(Oops) as caught:
        async with passing(0):
            raise error
    assert caught.value is error


async def hidden() -> weakref.ref[Oops]:
    async with hiding():
        error = Oops()
        ref = weakref.ref(error)
        try:
            raise error
        finally:
            del error
    return ref


async def replaced() -> weakref.ref[Oops]:
    with suppress(KeyError):
        async with replacing():
            error = Oops()
            ref = weakref.ref(error)
            try:
                raise error
            finally:
                del error
    return ref


async def test_nothing_keeps_an_exception_that_does_not_come_out() -> None:
    gc.disable()
    try:
        assert (await hidden())() is None
        assert (await replaced())() is None
    finally:
        gc.enable()
