"""The engine's invariants under random pipelines, schedules, faults and endings.

Each example draws a DAG of 1 to 12 nodes, a script of the client's actions (chunks in any order on any source, twice,
not at all, far ahead; flushes; refused chunks; pauses), the client's eagerness to read, and its ending. It runs through
`open_session` in its own event loop under virtual time, in which a hang is an hour that passes at once.

Rows are followed by their numbers: each data chunk carries its own, and nodes pass items on unchanged. Each check names
the invariant that it protects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unittest import mock

import attrs
import trio
import trio.testing
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from engine.errors import ChunkRefused, EngineError, NodeFailed, NodeRefused, SessionClosed
from engine.limits import Overflow
from engine.manifest import Connection, Manifest, NodeSpec
from engine.messages import BadChunk, Chunk, Result, SessionMetrics
from engine.session import Event, Session
from nodes.contract import Audio, Data, Item, Join, Kind
from tests.engine.harness import (
    Kinds,
    Probe,
    assert_settled,
    chunk,
    note,
    opened,
    run_virtually,
    tasks_now,
)

# ---- nodes that watch ------------------------------------------------------------------------


class Relay(Probe):
    """Passes items on; with the others of a diamond it shows whether branches stay in step."""


@attrs.define(eq=False, slots=False)
class Witness(Join):
    """Records every row: a `Join` must find every upstream node, and items of one row only."""

    takes = gives = Kind.BOTH
    built = Relay.built

    def __attrs_post_init__(self) -> None:
        self.built.append(self)
        self.closes = self.finishes = 0
        self.upstreams: Sequence[str] = ()

    def connect(self, upstreams: Sequence[str]) -> None:
        self.upstreams = upstreams

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
        assert list(row) == list(self.upstreams or [""]), "a row that lacks an edge, or an edge too many"
        return [item for items in row.values() for item in items[:4]]

    def finish(self) -> Iterable[Item]:
        self.finishes += 1
        return ()

    def close(self) -> None:
        self.closes += 1


KIND = st.one_of(
    st.just(("Relay", {})),
    st.just(("Witness", {})),
    st.builds(lambda k: ("Lag", {"items": k}), st.integers(0, 3)),
    st.builds(lambda k: ("Sieve", {"every": k}), st.integers(1, 4)),
    st.builds(lambda k: ("Copies", {"times": k}), st.integers(0, 3)),
    st.builds(lambda k: ("Picky", {"every": k}), st.integers(1, 6)),
    st.builds(lambda k: ("Fork", {"shut": k}), st.integers(0, 4)),
)
FATAL = st.builds(lambda k: ("Bomb", {"at": k}), st.integers(-1, 8))


# ---- what is drawn ---------------------------------------------------------------------------


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw a DAG of 1 to 12 nodes; edges lead from lower to higher numbers, in any order."""
    count = draw(st.integers(1, 12))
    fatal = draw(st.integers(0, 3)) == 0
    kinds = [draw(FATAL if fatal and draw(st.integers(0, 5)) == 0 else KIND) for _ in range(count)]
    pairs = [(a, b) for b in range(count) for a in range(b)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []
    taps = draw(st.sets(st.integers(0, count - 1), max_size=3))
    nodes = tuple(NodeSpec(f"n{i}", kind, params, is_output=i in taps) for i, (kind, params) in enumerate(kinds))
    return Manifest("v1", nodes, tuple(Connection(f"n{a}", f"n{b}") for a, b in chosen))


@attrs.frozen
class Client:
    """A client's behaviour.

    Attributes:
      script: `("row",)`, a data chunk for every source; `("chunk", source, offset)`, whose number is `offset` from the
        highest so far; `("bad", source, offset)` for the same, unreadable; `("flush",)`; `("pause", seconds)`.
      ending: "close", "cancel", "sudden" (a cancel in one go with the last chunk), "leave", "raise" or "scope".
      reads: Results read before it ends early; None reads all along.
      at_once: Run nodes at once, and take most events as soon as they exist, as the transport does.
      run_s: Limit of a scheduler run; if negative, each node's own task does its rows.
    """

    script: Sequence[Any]
    ending: str
    reads: int | None
    options: Mapping[str, Any]
    at_once: bool = False
    run_s: float = 60.0


STEP = st.one_of(
    st.tuples(st.just("chunk"), st.integers(0, 5), st.sampled_from([1, 1, 1, 1, 1, 1, 0, -1, -3, 2, 4, 40])),
    st.tuples(st.just("row")),
    st.tuples(st.just("row")),
    st.tuples(st.just("bad"), st.integers(0, 5), st.sampled_from([1, 1, 0, 3])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("pause"), st.sampled_from([0.0, 0.01, 0.3])),
)

CLIENT = st.builds(
    Client,
    st.lists(STEP, max_size=40),
    st.sampled_from(["close", "close", "close", "cancel", "sudden", "leave", "raise", "scope"]),
    st.one_of(st.none(), st.none(), st.integers(0, 20)),
    st.fixed_dictionaries(
        {
            "input_capacity": st.sampled_from([0, 1, 2, 5]),
            "reorder_window": st.sampled_from([0, 1, 3]),
            "overflow": st.sampled_from([Overflow.BLOCK, Overflow.BLOCK, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]),
            "lean": st.booleans(),
        }
    ),
    st.booleans(),
    st.sampled_from([60.0, -1.0]),
)


class Mine(Exception):
    """The user's own exception."""


# ---- one run ---------------------------------------------------------------------------------


class Run:
    """One example, from the manifest to the last check."""

    def __init__(self, manifest: Manifest, client: Client) -> None:
        self.manifest, self.client = manifest, client
        self.kinds = Kinds(Relay, Witness)  # type: ignore[arg-type]
        self.events: list[Event] = []
        self.offered = Counter[str]()
        self.flushes = 0
        self.closed = False
        self.is_over = False
        self.highest = -1
        self.account: SessionMetrics | None = None
        self.failure: EngineError | None = None

    async def go(self) -> None:
        # `opened` checks after every ending: no task left, every node closed exactly once (§4.6, §4.8), no hang (§4.5:
        # it would be an hour of virtual time), and a ledger that balances to the last chunk (§4.4).
        try:
            with trio.CancelScope() as scope:
                async with opened(self.manifest, self.kinds, within=3_600, **self.client.options) as session:
                    try:
                        await self.use(session, scope)
                    finally:
                        self.after(session)
        except Mine:
            assert self.client.ending == "raise"
        else:
            assert self.client.ending != "raise" or self.is_over
        self.check()

    def after(self, session: Session) -> None:
        self.failure = session.failure
        self.session = session

    async def use(self, session: Session, scope: trio.CancelScope) -> None:
        over = trio.Event()
        if self.client.at_once and self.client.reads is None:
            session.show_to(self.takes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.send, session, over)
            await self.receive(session)
            over.set()
            nursery.cancel_scope.cancel()
        if self.is_over:
            await self.check_rest()
            return
        match self.client.ending:
            case "cancel":
                session.cancel()
                await self.receive(session, to_the_end=True)
                # CANCEL is prompt: only the final metrics follow it.
                assert self.is_over
                await self.check_rest()
            case "raise":
                raise Mine
            case "scope":
                scope.cancel()
                await trio.lowlevel.checkpoint()
                raise AssertionError("the cancellation was swallowed")

    async def send(self, session: Session, over: trio.Event) -> None:
        try:
            for step in self.client.script:
                await self.do(session, step)
            if self.client.ending == "sudden":
                session.cancel()
            elif self.client.ending == "close" or self.client.reads is None:
                await session.close()
                self.closed = True
        except SessionClosed:
            # Only a session that has ended by itself may raise this, because a node has failed.
            assert session.failure is not None

    @property
    def is_cancelled(self) -> bool:
        return self.client.ending in ("cancel", "sudden")

    async def do(self, session: Session, step: Any) -> None:
        sources = session.source_ids
        match step:
            case ("row",):
                self.highest += 1
                for source in sources:
                    await self.offer(session, note(self.highest, source))
                    self.offered["chunk"] += 1
            case ("flush",):
                await session.flush()
                self.flushes += 1
            case "pause", seconds:
                await trio.sleep(seconds)
            case what, which, offset:
                source = sources[which % len(sources)]
                number = max(self.highest + offset, 0)
                self.highest = max(self.highest, number)
                bad = BadChunk(ChunkRefused("garbled"), number, source)
                good = chunk(number, source, 3) if which == 5 else note(number, source)
                await self.offer(session, bad if what == "bad" else good)
                self.offered[what] += 1

    async def offer(self, session: Session, offered: Chunk | BadChunk) -> None:
        while not session.offer(offered, at_once=self.client.at_once):
            await session.room()

    async def receive(self, session: Session, *, to_the_end: bool = False) -> None:
        wanted = None if to_the_end else self.client.reads
        while wanted is None or len(self.events) < wanted:
            if (event := await session.receive()) is None:
                self.is_over = True
                return
            self.events.append(event)

    def takes(self, shown: Event) -> bool:
        if len(self.events) % 3 == 2:
            return False
        self.events.append(shown)
        return True

    async def check_rest(self) -> None:
        """§4.8: a session that has ended has no running task, even while its user stays in the block."""
        await trio.testing.wait_all_tasks_blocked()
        assert tasks_now("node ") == 0

    # ---- invariants

    def check(self) -> None:
        self.check_order()
        self.check_flushes()
        self.check_errors()
        self.check_count()
        self.check_rows()

    def check_order(self) -> None:
        """§4.2: results leave in sequence order, each row once; a flush comes with the last row's number."""
        last: int | None = None
        for result in self.results:
            if result.flush:
                assert result.sequence == last or self.client.options["overflow"] is not Overflow.BLOCK
            else:
                assert result.sequence is not None
                assert last is None or result.sequence > last
                last = result.sequence

    def check_flushes(self) -> None:
        """§5: every FLUSH has a result, and every node has finished as often (a barrier passes every edge)."""
        flushed = sum(result.flush for result in self.results)
        assert flushed <= self.flushes + self.closed + 1
        if self.ran_to_the_end:
            assert flushed == self.flushes + 1
            assert all(node.finishes == flushed for node in self.kinds.built), "a barrier did not reach every node"

    def check_errors(self) -> None:
        """§5 Failure: a node's rejection comes right before its row's result; a failure is the last but one event."""
        pending: list[EngineError] = []
        for event_ in self.events:
            if isinstance(event_, NodeRefused):
                pending.append(event_)
            elif isinstance(event_, Result):
                assert list(event_.errors) == pending
                assert all(error.sequence == event_.sequence for error in pending)
                pending = []
            elif isinstance(event_, ChunkRefused):
                assert not pending, "an answer to another chunk between a row's errors and its result"
        if self.failure is not None:
            assert isinstance(self.failure, NodeFailed)
            bombs = {node.id for node in self.manifest.nodes if node.node_type == "Bomb"}
            assert self.failure.node_id in bombs
            if self.is_over:
                assert self.events[-2] is self.failure
                below = [result.sequence for result in self.results if not result.flush]
                assert all(n <= self.failure.sequence for n in below if n is not None and self.failure.sequence)

    def check_count(self) -> None:
        """§4.4: inputs equal outputs. One refusal for each refused chunk, one result for each row."""
        account = self.session.metrics()
        assert_settled(account)
        assert account.received == sum(self.offered.values()) or not self.closed
        if not self.is_over:
            return
        refusals = [e for e in self.events if isinstance(e, (ChunkRefused, SessionClosed))]
        if not self.is_cancelled and self.failure is None:
            assert len(refusals) == account.refused
            assert account.cancelled == 0
        if self.ran_to_the_end and len(self.session.source_ids) == 1:
            plain = [result for result in self.results if not result.flush]
            assert len(plain) == account.delivered + account.rejected
            assert sum(bool(result.errors) for result in plain) == account.rejected
        assert isinstance(self.events[-1], SessionMetrics)
        assert sum(isinstance(e, SessionMetrics) and e.final for e in self.events) == 1

    def check_rows(self) -> None:
        """§4.1: a packet per edge per row. Whatever a branch drops, delays or rejects, rows never mix.

        Nodes that hold nothing back emit, for row n, items of row n. In results without a Lag above an output, every
        item that carries a number carries the row's own. (Audio carries its position instead.)
        """
        if not self.ran_to_the_end:
            return
        lagging = self.below({node.id for node in self.manifest.nodes if node.node_type == "Lag"})
        for result in self.results:
            for node, items in result.items.items():
                if node not in lagging:
                    assert all(isinstance(item, Audio) or item.value["n"] == result.sequence for item in items)

    def below(self, nodes: set[str]) -> set[str]:
        found = set(nodes)
        for _ in self.manifest.nodes:
            found |= {edge.target for edge in self.manifest.connections if edge.source in found}
        return found

    @property
    def results(self) -> list[Result]:
        return [e for e in self.events if isinstance(e, Result)]

    @property
    def ran_to_the_end(self) -> bool:
        return self.is_over and self.closed and self.failure is None and not self.is_cancelled


# Small examples of likely or past bugs; Hypothesis finds the others.
DIAMOND = Manifest(
    "v1",
    (
        NodeSpec("n0", "Relay"),
        NodeSpec("n1", "Sieve", {"every": 2}),
        NodeSpec("n2", "Lag", {"items": 2}),
        NodeSpec("n3", "Witness"),
    ),
    (Connection("n0", "n1"), Connection("n0", "n2"), Connection("n1", "n3"), Connection("n2", "n3")),
)
GATED = Manifest(
    "v1",
    (
        NodeSpec("n0", "Fork", {"shut": 3}, is_output=True),
        NodeSpec("n1", "Relay"),
        NodeSpec("n2", "Lag", {"items": 1}),
        NodeSpec("n3", "Witness"),
    ),
    (Connection("n0", "n1"), Connection("n0", "n2"), Connection("n1", "n3"), Connection("n2", "n3")),
)
PLAIN = {"input_capacity": 0, "reorder_window": 0, "overflow": Overflow.BLOCK, "lean": False}


@example(DIAMOND, Client([("row",)] * 5 + [("flush",)] + [("row",)] * 3, "close", None, PLAIN))
@example(GATED, Client([("row",)] * 7 + [("flush",)] + [("row",)] * 3, "close", None, PLAIN))
@example(DIAMOND, Client([("row",)] * 7 + [("flush",)], "close", None, PLAIN, at_once=True))
@example(DIAMOND, Client([("row",)] * 7 + [("flush",)], "close", None, PLAIN, at_once=True, run_s=-1.0))
@example(DIAMOND, Client([("row",)] * 5, "cancel", 2, PLAIN))
@example(DIAMOND, Client([("row",)] * 5, "scope", 2, PLAIN))
@example(DIAMOND, Client([("row",), ("chunk", 0, 40), ("flush",), ("chunk", 0, -3)], "close", None, PLAIN))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(manifests(), CLIENT)
def test_what_always_holds(manifest: Manifest, client: Client) -> None:
    run = Run(manifest, client)
    with mock.patch("engine.pipeline.scheduler.MAX_RUN_S", client.run_s):
        run_virtually(run.go)
    event(f"ends by {'failure' if run.failure else client.ending if not run.closed else 'close'}")
    event(f"nodes: {len(manifest.nodes) // 4 * 4}+")


def test_the_examples_reach_what_they_are_for() -> None:
    """Guards against a suite that checks nothing: the diamond runs to its end, with results and tails."""
    run = Run(DIAMOND, Client([("row",)] * 5, "close", None, PLAIN))
    run_virtually(run.go)
    assert run.ran_to_the_end
    assert len(run.results) == 6
    assert all(isinstance(node, (Probe, Witness)) for node in run.kinds.built)
    assert isinstance(run.results[-1].items["n3"][0], Data)
