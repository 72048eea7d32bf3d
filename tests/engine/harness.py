"""Harness of the engine's tests: small nodes that misbehave on demand, manifests in one line, virtual time.

    kinds = Kinds()
    manifest = wire("a > b > c, a > c", b=("Lag", {"items": 2}))

A `Kinds` records every node built from it, so that a test can check that each was closed exactly once.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import attrs
import numpy as np
import trio
import trio.testing

from engine.contexts import acyclic
from engine.errors import EngineError
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest import Connection, Manifest, NodeSpec
from engine.messages import Chunk, Result, SessionMetrics
from engine.runtime.engine import Engine
from engine.session import Event, Session, open_session
from nodes.contract import AnyNode, Audio, Data, InvalidInput, Item, Join, Kind, Node, To, parameter

RATE = 16_000


def tone(n_frames: int = 10, value: float = 0.25, rate: int = RATE, channels: int = 1) -> Audio:
    return Audio(np.full((n_frames, channels), value, np.float32), rate)


def chunk(sequence: int, source: str = "", n_frames: int = 10, **more: Any) -> Chunk:
    return Chunk(tone(n_frames), sequence, source, **more)


def note(sequence: int, source: str = "", **more: Any) -> Chunk:
    """Make a data chunk that carries its own number."""
    return Chunk(Data({"n": sequence}), sequence, source, **more)


@attrs.define(eq=False, slots=False)
class Probe(Node):
    """Passes everything on, and counts the calls of its methods."""

    takes = Kind.BOTH
    gives = Kind.BOTH
    built: ClassVar[list[AnyNode]] = []

    def __attrs_post_init__(self) -> None:
        self.built.append(self)
        self.closes = self.finishes = self.seen = 0

    def process(self, item: Item) -> Iterable[Item | To]:
        self.seen += 1
        return self.treat(item)

    def treat(self, item: Item) -> Iterable[Item]:
        return (item,)

    def finish(self) -> Iterable[Item]:
        self.finishes += 1
        self.seen = 0
        return ()

    def close(self) -> None:
        self.closes += 1


class Pass(Probe):
    pass


class Hear(Probe):
    """Passes on audio only."""

    takes = gives = Kind.AUDIO


class Read(Probe):
    """Passes on data only."""

    takes = gives = Kind.DATA


@attrs.define(eq=False, slots=False)
class Lag(Probe):
    """Emits every item some items later, and the tail at the end."""

    items: int = parameter(1, help="items held back", at_least=0)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.held: list[Item] = []

    def treat(self, item: Item) -> Iterable[Item]:
        self.held.append(item)
        return [self.held.pop(0)] if len(self.held) > self.items else []

    def finish(self) -> Iterable[Item]:
        super().finish()
        tail, self.held = self.held, []
        return tail


@attrs.define(eq=False, slots=False)
class Sieve(Probe):
    """Drops every n-th item."""

    every: int = parameter(2, help="which items to drop", at_least=1)

    def treat(self, item: Item) -> Iterable[Item]:
        return () if self.seen % self.every == 0 else (item,)


@attrs.define(eq=False, slots=False)
class Copies(Probe):
    """Emits every item several times."""

    times: int = parameter(2, help="how often", at_least=0)

    def treat(self, item: Item) -> Iterable[Item]:
        return [item] * self.times


@attrs.define(eq=False, slots=False)
class Picky(Probe):
    """Rejects every n-th item."""

    every: int = parameter(2, help="which items to refuse", at_least=1)

    def treat(self, item: Item) -> Iterable[Item]:
        if self.seen % self.every == 0:
            raise InvalidInput(f"item {self.seen} is not to my taste")
        return (item,)


@attrs.define(eq=False, slots=False)
class Bomb(Probe):
    """Fails at item `at`, counted from 0; if that is negative, when it finishes."""

    at: int = parameter(0, help="which item is fatal")

    def treat(self, item: Item) -> Iterable[Item]:
        if self.seen - 1 == self.at:
            raise RuntimeError("boom")
        return (item,)

    def finish(self) -> Iterable[Item]:
        if self.at < 0:
            raise RuntimeError("boom at the end")
        return super().finish()


@attrs.define(eq=False, slots=False)
class Fork(Probe):
    """Sends item n to its n-th downstream node alone, in rotation; each `shut`-th item goes to none."""

    shut: int = parameter(0, help="which items go nowhere; 0 is none", at_least=0)
    routes = True

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.downstreams: Sequence[str] = ()

    def connect_outputs(self, downstreams: Sequence[str]) -> None:
        self.downstreams = downstreams

    def treat(self, item: Item) -> Iterable[Item | To]:  # type: ignore[override]
        if self.shut and self.seen % self.shut == 0:
            return ()
        if not self.downstreams:
            return (item,)
        return (To(self.downstreams[(self.seen - 1) % len(self.downstreams)], item),)


class Tally(Probe):
    """Counts the items since it was fresh, and emits the total at the end."""

    gives = Kind.DATA

    def treat(self, item: Item) -> Iterable[Item]:
        return (Data({"count": self.seen}),)

    def finish(self) -> Iterable[Item]:
        count = self.seen
        super().finish()
        return (Data({"total": count}),)


class Threaded(Probe):
    """Passes everything on, in a thread."""

    placement = "thread"


class Stuck(Probe):
    """Blocks in a thread until the test opens `gate`, which it must do."""

    placement = "thread"
    gate: ClassVar[threading.Event]
    entered: ClassVar[threading.Semaphore]

    def treat(self, item: Item) -> Iterable[Item]:
        self.entered.release()
        assert self.gate.wait(60), "the test has not opened the gate"
        return (item,)


@attrs.define(eq=False, slots=False)
class Hog(Probe):
    """Reports to hold `nbytes` bytes once it has seen an item."""

    nbytes: int = parameter(0, help="bytes claimed")

    @property
    def memory_bytes(self) -> int:
        return self.nbytes * bool(self.seen)


@attrs.define(eq=False, slots=False)
class Meet(Join):
    """Reports the items that met in a row: upstream id → their numbers, or the starts of audio."""

    takes = Kind.BOTH
    gives = Kind.DATA
    built: ClassVar[list[AnyNode]] = []

    def __attrs_post_init__(self) -> None:
        self.built.append(self)
        self.closes = self.finishes = 0

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
        return (Data({upstream: [number_of(item) for item in items] for upstream, items in row.items()}),)

    def finish(self) -> Iterable[Item]:
        self.finishes += 1
        return ()

    def close(self) -> None:
        self.closes += 1


def number_of(item: Item) -> Any:
    return item.start if isinstance(item, Audio) else item.value.get("n")


KINDS = (Pass, Hear, Read, Lag, Sieve, Copies, Picky, Bomb, Fork, Tally, Threaded, Stuck, Hog, Meet)


class Kinds(dict[str, type[AnyNode]]):
    """A registry of this module's nodes (and `more`) that records all nodes built from it."""

    def __init__(self, *more: type[AnyNode]) -> None:
        self.built: list[Any] = []
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        own = {"built": self.built, "gate": self.gate, "entered": self.entered}
        super().__init__({kind.__name__: type(kind.__name__, (kind,), dict(own)) for kind in (*KINDS, *more)})

    def assert_closed_once(self) -> None:
        """Check that every node was closed exactly once, as it must be however a session ends."""
        assert [node.closes for node in self.built] == [1] * len(self.built)


def wire(graph: str, **nodes: Any) -> Manifest:
    """Make a manifest of paths such as "a > b > c, a > c"; a node is `Pass`, or the type or (type, params) given."""
    ids: dict[str, None] = {}
    edges: dict[Connection, None] = {}
    for line in graph.split(","):
        path = [name.strip() for name in line.split(">")]
        ids.update(dict.fromkeys(path))
        edges.update(dict.fromkeys(map(Connection, path, path[1:])))
    return Manifest("v1", tuple(_spec(name, nodes.get(name, "Pass")) for name in ids), tuple(edges))


def _spec(name: str, node: Any) -> NodeSpec:
    if isinstance(node, NodeSpec):
        return attrs.evolve(node, id=name)
    if isinstance(node, str):
        return NodeSpec(name, node)
    node_type, params = node
    return NodeSpec(name, node_type, params)


@acyclic
@asynccontextmanager
async def opened(
    manifest: Manifest,
    kinds: Kinds,
    *,
    engine: Engine | None = None,
    limits: ResourceLimits | None = None,
    within: float = 600.0,
    **options: Any,
) -> AsyncIterator[Session]:
    """Open a session, and check that it leaves nothing behind: no task, no open node, no unsettled chunk.

    Args:
      within: Virtual seconds after which the session counts as hung.
    """
    before = tasks_now()
    session: Session | None = None
    try:
        with trio.fail_after(within):
            how = SessionOptions(**options)
            registry = None if engine else kinds
            async with open_session(manifest, registry=registry, engine=engine, limits=limits, options=how) as session:
                yield session
    finally:
        assert tasks_now() == before, "tasks are left"
        kinds.assert_closed_once()
        if session is not None:
            assert_settled(session.metrics())


def assert_settled(account: SessionMetrics) -> None:
    """Check that no chunk is lost silently: every received chunk has exactly one fate."""
    assert account.received == account.accepted + account.refused
    assert account.accepted == account.delivered + account.rejected + account.dropped + account.cancelled
    assert account.in_flight == 0


async def receive_all(session: Session) -> list[Event]:
    """Return all events up to the end of the session; a failure is one of them, and not raised."""
    events: list[Event] = []
    while (event := await session.receive()) is not None:
        events.append(event)
    return events


def results(events: Iterable[Event]) -> list[Result]:
    return [event for event in events if isinstance(event, Result)]


def errors(events: Iterable[Event]) -> list[EngineError]:
    return [event for event in events if isinstance(event, EngineError)]


def final(events: Sequence[Event]) -> SessionMetrics:
    """Return the last event, which must be the only final metrics."""
    *before, last = events
    assert isinstance(last, SessionMetrics)
    assert last.final
    assert not any(isinstance(event, SessionMetrics) and event.final for event in before)
    return last


def numbers(result: Result, node: str) -> list[Any]:
    """Return the numbers of a node's items in a result."""
    return [number_of(item) for item in result.items.get(node, ())]


def tasks_now(name: str = "") -> int:
    """Return the number of this run's tasks whose names have this prefix, trio's own among them."""

    def count(task: trio.lowlevel.Task) -> int:
        below = sum(count(child) for nursery in task.child_nurseries for child in nursery.child_tasks)
        return below + task.name.startswith(name)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return count(root)


def run_virtually(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test in its own event loop, where time jumps ahead whenever all tasks wait."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
