"""Test that a node's library is loaded off the event loop, once."""

from __future__ import annotations

import threading

import attrs
import pytest

from engine.errors import ManifestInvalid
from engine.runtime.engine import Engine
from engine.session import open_session
from nodes.pass_through import PassThrough
from tests.engine.harness import wire

built_in: list[threading.Thread] = []


@attrs.define
class Heavy(PassThrough):
    extra = "heavy"

    def __attrs_post_init__(self) -> None:
        built_in.append(threading.current_thread())


@attrs.define
class Missing(PassThrough):
    extra = "heavy"

    def __attrs_post_init__(self) -> None:
        raise ValueError("needs heavy, which is not installed")


async def test_the_first_of_a_class_with_an_extra_is_built_in_a_thread() -> None:
    engine = Engine({"Heavy": Heavy, "Light": PassThrough})
    for _ in range(2):
        async with open_session(wire("a > b > c", a="Light", b="Heavy", c="Heavy"), engine=engine):
            pass
    loop = threading.current_thread()
    assert [thread is loop for thread in built_in] == [False, False, True, True]


async def test_faults_come_from_there_too() -> None:
    with pytest.raises(ManifestInvalid, match="needs heavy"):
        async with open_session(wire("a", a="Missing"), registry={"Missing": Missing}):
            pass
