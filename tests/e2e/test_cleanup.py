"""A call leaves nothing behind, however and whenever it ends: tasks, descriptors, nodes and accounts are as before.

The matrix: {unary, stream} x {ending} x {moment}. The server runs in this process, to be counted, its client does not.
A node that waits in a thread holds each call at the required moment.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import ClassVar

import attrs
import numpy as np
import pytest
import trio
import trio.testing

import engine.session.accounts
from engine.pipeline.memory import MemoryAccount
from engine.runtime.engine import Engine
from nodes.contract import Audio, Node, parameter
from tests.e2e.clients import Foreign
from tests.e2e.raw_messages import CLOSE, buffer, chunk, execute_request, opening, pipeline
from tests.e2e.test_freed import descriptors, in_thread, tasks
from transport.grpc.limits import Limits
from transport.server import Server, serve
from transport.server.call import Call
from transport.service.pipelines import handlers

UNARY = "/remotemedia.v1.PipelineExecutionService/ExecutePipeline"
STREAM = "/remotemedia.v1.StreamingPipelineService/StreamPipeline"

ENDINGS = ("cancel", "deadline", "disconnect", "kill -9", "shutdown", "node failure", "node stuck")
MOMENTS = ("before ready", "mid-chunk", "backpressure", "flush")
MATRIX = [
    (kind, ending, moment)
    for kind in ("unary", "stream")
    for ending in ENDINGS
    for moment in MOMENTS
    if (ending, moment) != ("node stuck", "before ready")  # no node is in a thread before the session is ready
]


class Stage:
    """Shared state of one test's nodes."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.built = self.closed = 0


@attrs.define
class Waits(Node):
    """Waits in a thread until the test releases it, in `process` or `finish`; then continues or fails."""

    stage: ClassVar[Stage]

    at: str = parameter("process", help="where it waits")
    then: str = parameter("go on", help="what it does then")

    placement = "thread"

    def __attrs_post_init__(self) -> None:
        if self.at == "birth":
            self.stage.reached.set()
            raise RuntimeError("a node that cannot be made")
        with self.stage.lock:
            self.stage.built += 1

    def process(self, item: Audio) -> Iterable[Audio]:
        if self.at == "process":
            self._wait()
        return (item,)

    def finish(self) -> Iterable[Audio]:
        if self.at == "finish":
            self._wait()
        return ()

    def _wait(self) -> None:
        self.stage.reached.set()
        assert self.stage.opened.wait(60)
        if self.then == "break":
            raise RuntimeError("it broke")

    def close(self) -> None:
        with self.stage.lock:
            self.stage.closed += 1


@attrs.define
class Plain(Node):
    """Passes audio on, inline, and is counted."""

    def __attrs_post_init__(self) -> None:
        Waits.stage.built += 1

    def process(self, item: Audio) -> Iterable[Audio]:
        return (item,)

    def close(self) -> None:
        Waits.stage.closed += 1


class Account(MemoryAccount):
    """A memory account that is listed in `living` while any object refers to it."""

    living: ClassVar[weakref.WeakSet[Account]] = weakref.WeakSet()
    __hash__ = object.__hash__

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.living.add(self)


@attrs.frozen
class Counts:
    tasks: int
    descriptors: int
    accounts: int
    bytes: int

    @classmethod
    def now(cls) -> Counts:
        gc.collect()
        return cls(tasks(), descriptors(), len(Account.living), sum(each.used for each in Account.living))


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """Limit the many garbage collections here to the objects of these tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    Waits.stage = Stage()
    monkeypatch.setattr(engine.session.accounts, "MemoryAccount", Account)
    yield Waits.stage
    Waits.stage.opened.set()


class Clients:
    """Keeps one foreign client, and replaces it when it has been killed."""

    def __init__(self) -> None:
        self._client: Foreign | None = None

    def get(self) -> Foreign:
        if self._client is None or self._client.process.poll() is not None:
            self.close()
            self._client = Foreign("")
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.__exit__()


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    kept = Clients()
    yield kept
    kept.close()


def requests(kind: str, ending: str, moment: str) -> list[bytes]:
    """Make the requests that bring a call to this moment and allow this ending."""
    at = {"before ready": "birth", "flush": "finish"}.get(moment, "process")
    then = "break" if ending == "node failure" else "go on"
    manifest = pipeline({"in": "Plain", "waits": ("Waits", {"at": at, "then": then})}, "in>waits")
    limits = {"max_timeout_ms": 500 if (kind, ending) == ("unary", "node stuck") else 30_000}
    if moment == "before ready" and ending != "node failure":
        return []
    if kind == "unary":
        seconds = 60 if moment == "backpressure" else 1
        audio = {"in": buffer(np.zeros(8_000 * seconds, np.int16), 8_000)}
        return [execute_request(manifest, audio, **limits).SerializeToString()]
    count = 40 if moment == "backpressure" else 1
    sent = [opening(manifest, input_capacity=2, **limits), *(chunk(np.zeros(800, np.int16), i) for i in range(count))]
    return [each.SerializeToString() for each in [*sent, *([CLOSE] if moment == "flush" else [])]]


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await trio.testing.wait_all_tasks_blocked(0.005)


def calls(server: Server) -> list[Call]:
    return [call for each in server.connections for call in each.driver.streams.values() if isinstance(call, Call)]


@pytest.mark.parametrize(("kind", "ending", "moment"), MATRIX)
async def test_nothing_stays(kind: str, ending: str, moment: str, stage: Stage, clients: Clients) -> None:
    foreign = clients.get()
    await in_thread(lambda: None)  # start trio's worker thread now
    with trio.fail_after(120):
        before = Counts.now()
        async with trio.open_nursery() as nursery:
            shared = Engine({"Plain": Plain, "Waits": Waits})
            nursery.start_soon(shared.sweep.run)
            server: Server = await nursery.start(partial(serve, handlers(shared), limits=Limits()))
            await trio.testing.wait_all_tasks_blocked()
            while_idle = Counts.now()
            address = f"127.0.0.1:{server.port}"
            number = await in_thread(foreign.ask, "open", address, 60, UNARY if kind == "unary" else STREAM)
            await in_thread(foreign.ask, "send", number, requests(kind, ending, moment), 0.0)
            if kind == "unary" and not (moment == "before ready" and ending != "node failure"):
                await in_thread(foreign.ask, "half_close", number)
            await arrive(server, kind, ending, moment, stage)
            await bring_about(ending, server, foreign, number, address, stage, shared)
            await until(lambda: not calls(server))
            if foreign.process.poll() is None and ending != "disconnect":
                await in_thread(foreign.ask, "disconnect", address)
            if ending != "node failure" and stage.reached.is_set():
                assert stage.closed < stage.built  # the call did not wait for the node in its thread
            stage.opened.set()
            await until(lambda: stage.closed == stage.built and not shared.threads.straggling)
            if ending != "shutdown":
                await until(lambda: Counts.now() == while_idle)
                assert server.budget.used_bytes == 0
                assert server.access.statistics().sessions == 0
            nursery.cancel_scope.cancel()
        await until(lambda: Counts.now() == before)
    if moment != "before ready":
        assert stage.built == 2


async def arrive(server: Server, kind: str, ending: str, moment: str, stage: Stage) -> None:
    if moment == "before ready" and ending != "node failure":
        await until(lambda: server.open_calls == 1)
        return
    await until(lambda: stage.reached.is_set() or (stage.built and not calls(server)))
    if (kind, moment) == ("stream", "backpressure"):
        await until(lambda: any(call.unread_messages > 5 for call in calls(server)))


async def bring_about(
    ending: str, server: Server, foreign: Foreign, number: int, address: str, stage: Stage, shared: Engine
) -> None:
    match ending:
        case "cancel":
            await in_thread(foreign.ask, "reset", number)
        case "deadline":
            (call,) = calls(server)
            assert call.deadline < trio.current_time() + 61
            call.scope.deadline = trio.current_time()  # as if the deadline had passed
        case "disconnect":
            await in_thread(foreign.ask, "disconnect", address)
        case "kill -9":
            await in_thread(foreign.kill)
        case "shutdown":
            server.drain(0, closing_s=0.05)
        case "node failure":
            stage.opened.set()
        case "node stuck":  # the time limit ends the session; a unary call reaches its limit by itself
            shared.sweep.clock += 60
