"""A client that leaves in mid-stream leaves nothing behind: tasks, file descriptors and nodes are as many as before.

The server runs in this process, to look inside it; the foreign client runs in its own, to be killed.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trio.testing
from h2.connection import H2Connection

from engine.manifest import Manifest, NodeSpec
from engine.pipeline import RunningPipeline
from engine.pipeline.node_task import NodeTask
from engine.session import Session
from nodes.contract import Audio, Item, Kind, Node
from nodes.vad import VAD
from tests.e2e.clients import Foreign, Talk
from tests.e2e.raw_messages import CANCEL, buffer, chunk, execute_request, final_metrics, opening, pipeline, ramp
from tests.e2e.servers import serving
from transport.client import connect
from transport.client.errors import DeadlineExceeded
from transport.grpc.driver import Driver
from transport.grpc.limits import Limits
from transport.server import Server

BIG = 16_384


class Census:
    """Numbers of built and closed nodes, with an event for each change."""

    def __init__(self) -> None:
        self.built = self.closed = 0
        self.changed = trio.Event()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def wait_closed(self, count: int) -> None:
        while self.closed < count:
            await self.changed.wait()


@attrs.define
class Counted(Node):
    """Passes everything on, and is counted."""

    census: ClassVar[Census]

    takes = Kind.BOTH
    gives = Kind.BOTH

    def __attrs_post_init__(self) -> None:
        self.census.built += 1

    def process(self, item: Item) -> Iterable[Item]:
        return (item,)

    def close(self) -> None:
        self.census.closed += 1
        self.census.tell()


@attrs.define
class Gate(Node):
    """Blocks in a thread until the test opens it."""

    opened: ClassVar[threading.Event]
    reached: ClassVar[threading.Event]
    closed: ClassVar[threading.Event]

    placement = "thread"

    def process(self, item: Audio) -> Iterable[Audio]:
        self.reached.set()
        assert self.opened.wait(60)
        return (item,)

    def close(self) -> None:
        self.closed.set()


@attrs.define
class Bomb(Node):
    """Fails at every item."""

    def process(self, item: Audio) -> Iterable[Audio]:
        raise RuntimeError("boom")


def tasks() -> int:
    """Return the number of this run's tasks, without those in trio's system nursery."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, waiting = 0, [root]
    while waiting:
        task = waiting.pop()
        found += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@attrs.frozen
class Counts:
    tasks: int
    descriptors: int
    connections: int
    calls: int

    @classmethod
    def now(cls, server: Server) -> Counts:
        return cls(tasks(), descriptors(), len(server.connections), server.open_calls)


async def back_to(before: Counts, server: Server) -> None:
    """Wait until everything is as before; if it never is, the assertion shows the difference."""
    with trio.move_on_after(60):
        while Counts.now(server) != before:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert Counts.now(server) == before


DIAMOND = pipeline(
    {"in": "Counted", "one": "Counted", "two": "Counted", "vad": "VAD", "out": "Counted"},
    "in>one",
    "in>two",
    "in>vad",
    "one>out",
    "two>out",
)
REGISTRY = {"Counted": Counted, "VAD": VAD, "Gate": Gate, "Bomb": Bomb}
QUIET = {"reorder_timeout_ms": 60_000, "metrics_interval_ms": 3_600_000}
"""Options of a session that sends nothing by itself, so that no failed send shows that the client is gone."""


def in_mid_stream(talk: Talk) -> None:
    """Have three chunks answered, then send some that wait for a hole."""
    for i in range(3):
        assert talk.ask(chunk(ramp(i), i)).sequence == i
    talk.send(*(chunk(ramp(i), i) for i in range(4, 9)))


def unread(talk: Talk) -> None:
    """Send chunks and read nothing, until the server takes no more."""
    talk.send(*(chunk(ramp(i, BIG), i) for i in range(200)))
    assert talk.wait_quiet(0.2) < 150


def silent(talk: Talk) -> None:
    """Do nothing: the session has only been opened."""


def reset(foreign: Foreign, talk: Talk) -> None:
    talk.reset()
    foreign.ask("disconnect", foreign.address)


def gone(foreign: Foreign, talk: Talk) -> None:
    foreign.kill()


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await trio.to_thread.run_sync(partial(function, *arguments), abandon_on_cancel=True)


@pytest.mark.parametrize("leave", [reset, gone])
@pytest.mark.parametrize("state", [in_mid_stream, unread, silent])
async def test_a_client_that_leaves(state: Callable[[Talk], None], leave: Callable[[Foreign, Talk], None]) -> None:
    Counted.census = Census()
    with trio.fail_after(120):
        async with serving(REGISTRY) as server:
            with Foreign(f"127.0.0.1:{server.port}") as foreign:
                await in_thread(lambda: None)  # start trio's worker thread now
                before = Counts.now(server)
                talk = await in_thread(partial(foreign.session, DIAMOND, **QUIET))
                await in_thread(state, talk)
                assert Counted.census.built == 4
                assert Counted.census.closed == 0
                assert server.open_calls == 1
                await in_thread(leave, foreign, talk)
                await Counted.census.wait_closed(4)
                await back_to(before, server)
            assert Counted.census.closed == 4


async def test_a_deadline_frees_the_session() -> None:
    Counted.census = Census()
    with trio.fail_after(120):
        async with serving(REGISTRY) as server:
            with Foreign(f"127.0.0.1:{server.port}") as foreign:
                await in_thread(foreign.get_version)
                before = Counts.now(server)
                talk = await in_thread(partial(foreign.stream, opening(DIAMOND, **QUIET), chunk(ramp()), timeout=0.5))
                await in_thread(talk.rest)
                assert talk.end.code == "DEADLINE_EXCEEDED"
                await back_to(before, server)
                assert Counted.census.closed == Counted.census.built


async def test_a_reset_frees_one_session_of_several_on_a_connection() -> None:
    Counted.census = Census()
    with trio.fail_after(120):
        async with serving(REGISTRY) as server:
            with Foreign(f"127.0.0.1:{server.port}") as foreign:
                stays = await in_thread(foreign.session, DIAMOND)
                await in_thread(stays.ask, chunk(ramp(), 0))
                before = Counts.now(server)
                for round_ in range(1, 4):
                    leaves = await in_thread(partial(foreign.session, DIAMOND, **QUIET))
                    await in_thread(in_mid_stream, leaves)
                    assert server.open_calls == 2
                    await in_thread(leaves.reset)
                    await Counted.census.wait_closed(4 * round_)
                    await back_to(before, server)
                    await in_thread(stays.ask, chunk(ramp(), round_))
                responses = await in_thread(stays.finish)
                assert final_metrics(responses).delivered == 4
                assert Counted.census.closed == Counted.census.built == 16


async def test_cancel_while_the_window_is_full_frees_what_can_be_freed() -> None:
    """A node stuck in its thread holds all credits. The session ends; the node is closed when its call returns."""
    Gate.opened, Gate.reached, Gate.closed = threading.Event(), threading.Event(), threading.Event()
    Counted.census = Census()
    manifest = pipeline({"in": "Counted", "gate": "Gate"}, "in>gate")
    try:
        with trio.fail_after(120):
            async with serving(REGISTRY) as server:
                with Foreign(f"127.0.0.1:{server.port}") as foreign:
                    await in_thread(foreign.get_version)
                    before = Counts.now(server)
                    talk = await in_thread(partial(foreign.session, manifest, input_capacity=2))
                    await in_thread(talk.send, *(chunk(ramp(i), i) for i in range(6)))
                    assert await in_thread(Gate.reached.wait, 60)
                    await in_thread(talk.send, CANCEL)
                    responses = await in_thread(talk.rest)
                    assert talk.end.code == "OK"
                    metrics = final_metrics(responses)
                    assert (metrics.received, metrics.accepted, metrics.cancelled) == (2, 2, 2)
                    await back_to(before, server)
                    assert Counted.census.closed == 1
                    assert not Gate.closed.is_set()
                    Gate.opened.set()
                    assert await in_thread(Gate.closed.wait, 60)
    finally:
        Gate.opened.set()


async def test_a_cancel_whose_answer_is_not_read_frees_the_session() -> None:
    """The client reads nothing, so nothing can be sent; the session must still end."""
    Counted.census = Census()
    with trio.fail_after(120):
        async with serving(REGISTRY, Limits(write_timeout_s=3600)) as server:
            with Foreign(f"127.0.0.1:{server.port}") as foreign:
                await in_thread(foreign.get_version)
                before = Counts.now(server)
                talk = await in_thread(partial(foreign.session, pipeline({"in": "Counted"}), input_capacity=2))
                await in_thread(talk.send, *(chunk(ramp(i, BIG), i) for i in range(7)), CANCEL)
                await Counted.census.wait_closed(1)
                await back_to(before, server)


ALL_OVER = (Driver, H2Connection, Session, RunningPipeline, NodeTask)


def living() -> int:
    """Return the number of objects that make up connections and sessions, garbage included."""
    return sum(isinstance(each, ALL_OVER) for each in gc.get_objects())


async def freed_to(before: int) -> None:
    with trio.move_on_after(60):
        while living() > before:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert living() <= before


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def well(foreign: Foreign) -> None:
    with foreign.session(DIAMOND) as talk:
        talk.ask(chunk(ramp(), 0))
        talk.finish()


def by_reset(foreign: Foreign) -> None:
    talk = foreign.session(DIAMOND, **QUIET)
    in_mid_stream(talk)
    talk.reset()


def by_deadline(foreign: Foreign) -> None:
    talk = foreign.stream(opening(DIAMOND, **QUIET), chunk(ramp()), timeout=0.2)
    talk.rest()
    assert talk.end.code == "DEADLINE_EXCEEDED"


def by_failure(foreign: Foreign) -> None:
    with foreign.session(pipeline({"in": "Counted", "bomb": "Bomb"}, "in>bomb")) as talk:
        talk.send(chunk(ramp()))
        assert "boom" in talk.expect("error").error.message
        talk.rest()


def by_failure_at_a_meeting(foreign: Foreign) -> None:
    """Fail in a node with two inbound edges, which is a plain `NodeTask`."""
    with foreign.session(
        pipeline({"in": "Counted", "out": "Counted", "bomb": "Bomb"}, "in>out", "in>bomb", "out>bomb")
    ) as talk:
        talk.send(chunk(ramp()))
        assert "boom" in talk.expect("error").error.message
        talk.rest()


def by_failure_over_whole_inputs(foreign: Foreign) -> None:
    outcome = foreign.execute(execute_request(pipeline({"bomb": "Bomb"}), {"": buffer(ramp())}))
    assert "boom" in outcome.error.message


def before_it_began(foreign: Foreign) -> None:
    assert foreign.whole(opening(pipeline({"in": "Nonesuch"})))[1].code == "INVALID_ARGUMENT"


ENDS = [
    well,
    by_reset,
    by_deadline,
    by_failure,
    by_failure_at_a_meeting,
    by_failure_over_whole_inputs,
    before_it_began,
]


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("end", ENDS)
async def test_what_is_over_is_freed_without_the_collector(end: Callable[[Foreign], None]) -> None:
    """Only full collections would free cycles, and they can be minutes apart."""
    Counted.census = Census()
    before = living()
    with trio.fail_after(120):
        async with serving(REGISTRY) as server:
            with Foreign(f"127.0.0.1:{server.port}") as foreign:
                await in_thread(end, foreign)
            while server.connections:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await freed_to(before)


PLAIN = Manifest("v1", (NodeSpec("in", "Counted"),))


async def leaves_early(address: str) -> None:
    async with connect(address) as client, client.stream(PLAIN):
        pass


async def is_cancelled(address: str) -> None:
    with trio.CancelScope() as scope:
        async with connect(address) as client, client.stream(PLAIN) as session:
            scope.cancel()
            await session.receive()


async def is_cancelled_as_it_fails(address: str) -> None:
    with trio.CancelScope() as scope:
        async with connect(address) as client, client.stream(PLAIN):
            scope.cancel()
            raise ValueError("never seen")


async def is_late(address: str) -> None:
    async def receive_for_ever() -> None:
        async with client.stream(PLAIN, timeout_s=0.2) as session:
            while True:
                await session.receive()

    async with connect(address) as client:
        with pytest.raises(DeadlineExceeded):
            await receive_for_ever()


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("client", [leaves_early, is_cancelled, is_cancelled_as_it_fails, is_late])
async def test_what_our_client_leaves_is_freed_without_the_collector(client: Callable[[str], Awaitable[None]]) -> None:
    """Objects of both sides are counted, because both are in this process."""
    Counted.census = Census()
    before = living()
    with trio.fail_after(120):
        async with serving(REGISTRY) as server:
            await client(f"127.0.0.1:{server.port}")
            while server.connections:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await freed_to(before)
