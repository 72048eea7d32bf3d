"""The endings of a session: CANCEL, failure, limits, the user's own exception. It leaves nothing behind and says why.

`opened` checks after each test that no task is left, every node was closed once, and the account balances.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import (
    ManifestInvalid,
    MemoryLimitExceeded,
    NodeFailed,
    SamplesLimitExceeded,
    SessionClosed,
    TimeLimitExceeded,
)
from engine.limits import DEFAULT_LIMITS, DEFAULT_MAXIMA, ResourceLimits
from engine.messages import Chunk, NodeStatus, Result, SessionMetrics, Status
from engine.pipeline.running import MEMORY_S
from engine.runtime.engine import Engine
from engine.session import Session, open_session
from nodes.contract import Data, Item, Kind
from tests.engine.harness import (
    Kinds,
    Probe,
    chunk,
    errors,
    final,
    note,
    numbers,
    opened,
    receive_all,
    results,
    tasks_now,
    tone,
    wire,
)

# ---- CANCEL ----------------------------------------------------------------------------------


async def test_cancel_discards_what_is_queued_and_ends_with_the_final_metrics(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds) as session:
        for sequence in range(5):
            await session.send(chunk(sequence))
        await wait_all_tasks_blocked()
        assert tasks_now("node ") == 2
        session.cancel()
        events = await receive_all(session)
        await wait_all_tasks_blocked()
        assert tasks_now("node ") == 0, "tasks run after the end"
    assert len(events) == 1
    account = final(events)
    assert (account.accepted, account.cancelled) == (5, 5)
    assert session.failure is None


async def test_cancel_right_after_a_chunk_whose_node_is_already_called(autojump_clock: MockClock) -> None:
    """The node's task has already been woken for the packet when the cancel comes, and still does the row."""
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await wait_all_tasks_blocked()
        await session.send(chunk(0))
        session.cancel()
        assert final(await receive_all(session)).cancelled == 1


@pytest.mark.parametrize("steps", range(12))
async def test_cancel_at_any_time(steps: int, autojump_clock: MockClock) -> None:
    """The cancel comes `steps` scheduling steps after the chunks were sent, with some results received by then."""
    kinds = Kinds()
    async with opened(wire("a > b > d, a > c > d", b=("Picky", {"every": 2}), d="Meet"), kinds) as session:
        for sequence in range(6):
            await session.send(note(sequence))
        got = [await session.receive() for _ in range(steps // 4)]
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        session.cancel()
        session.cancel()
        account = final(await receive_all(session))
    # The event in hand when the cancel comes counts as handed over, because `receive` is called again. If that event is
    # an error that precedes its result, its row does not count.
    done = sum(isinstance(event, Result) for event in got)
    assert account.delivered + account.rejected == done
    assert account.cancelled == 6 - done


async def test_cancel_counts_what_waits_for_a_hole(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        for sequence in (0, 2, 3):
            await session.send(chunk(sequence))
        session.cancel()
        assert final(await receive_all(session)).cancelled == 3


async def test_cancel_frees_a_sender_that_waits_for_room(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, input_capacity=1) as session, trio.open_nursery() as nursery:

        async def send() -> None:
            await session.send(chunk(0))
            with pytest.raises(SessionClosed):
                await session.send(chunk(1))

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        session.cancel()


async def test_the_surrounding_scope_may_be_cancelled_at_any_time(autojump_clock: MockClock) -> None:
    """`trio.Cancelled` is never swallowed: the scope catches its own cancellation, and nothing runs after it."""
    kinds = Kinds()
    went_on = False
    with trio.CancelScope() as scope:
        async with opened(wire("a > b"), kinds) as session:
            await session.send(chunk(0))
            scope.cancel()
            await receive_all(session)
            await session.receive()
            await trio.lowlevel.checkpoint()
            went_on = True
    assert scope.cancelled_caught
    assert not went_on


async def test_a_deadline_over_a_waiting_receiver_ends_the_session(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    with trio.move_on_after(7) as scope:
        async with opened(wire("a > b"), kinds, metrics_interval_ms=60_000) as session:
            await session.receive()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(7)


# ---- exceptions of the user ------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine"), ExceptionGroup("mine", [OSError()])])
async def test_the_users_exception_comes_out_as_it_was_raised(error: Exception, autojump_clock: MockClock) -> None:
    """It is not in an exception group of the session's own nursery."""
    kinds = Kinds()

    async def use() -> None:
        async with opened(wire("a > b"), kinds) as session:
            await session.send(chunk(0))
            raise error

    with pytest.raises(type(error)) as caught:
        await use()
    assert caught.value is error


async def test_an_exception_that_a_cancel_overtakes_keeps_nothing_alive(autojump_clock: MockClock) -> None:
    """Its traceback and the frames in that are freed at once, not by the garbage collector."""

    async def use() -> weakref.ref[Session]:
        with trio.CancelScope() as scope:
            async with opened(wire("a > b"), Kinds()) as session:
                freed = weakref.ref(session)
                scope.cancel()
                raise ValueError("never seen")
        assert scope.cancelled_caught
        return freed

    gc.disable()
    try:
        freed = await use()
        assert freed() is None
    finally:
        gc.enable()


async def test_leaving_the_block_early_cancels_what_is_under_way(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds) as session:
        for sequence in range(3):
            await session.send(chunk(sequence))
        await session.receive()
        await session.receive()
    account = session.metrics()
    assert (account.delivered, account.cancelled) == (1, 2)


async def test_a_manifest_with_faults_closes_what_was_built_and_leaves_no_task(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    before = tasks_now()
    with pytest.raises(ManifestInvalid):
        async with open_session(wire("a > b > c", c="Nonsense"), registry=kinds):
            raise AssertionError("it opened")
    assert len(kinds.built) == 2
    kinds.assert_closed_once()
    assert tasks_now() == before


class Evasive(Probe):
    """Cannot report its delay."""

    @property
    def delay(self) -> float:
        raise ZeroDivisionError("delay")


async def test_a_session_that_cannot_be_made_closes_what_was_built(autojump_clock: MockClock) -> None:
    kinds = Kinds(Evasive)
    with pytest.raises(ZeroDivisionError):
        async with open_session(wire("a > b", b="Evasive"), registry=kinds):
            raise AssertionError("it opened")
    kinds.assert_closed_once()


async def test_a_node_that_fails_to_close_keeps_no_other_open(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Sticky(Probe):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    kinds = Kinds(Sticky)
    async with opened(wire("a > b > c", a="Sticky", b="Sticky"), kinds):
        pass
    assert "closing node 'a' failed" in caplog.text


# ---- failure ---------------------------------------------------------------------------------


async def test_a_failed_node_ends_the_session_after_the_rows_below(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > bomb > end", bomb=("Bomb", {"at": 3})), kinds) as session:
        for sequence in range(10, 16):
            await session.send(chunk(sequence, n_frames=7))
        events = await receive_all(session)
        assert await session.receive() is None
    assert [type(event) for event in events] == [Result, Result, Result, NodeFailed, SessionMetrics]
    assert [result.sequence for result in results(events)] == [10, 11, 12]
    (failure,) = errors(events)
    assert failure is session.failure
    assert (failure.node_id, failure.sequence) == ("bomb", 13)
    assert failure.context == {"node_type": "Bomb", "params": {"at": 3}, "inputs": ["7x1 f32 at 16000 Hz"]}
    assert "RuntimeError: boom" in failure.message
    assert "in treat" in failure.stack_trace
    account = final(events)
    assert (account.delivered, account.cancelled) == (3, 3)


async def test_rows_below_the_failed_one_are_finished_by_slower_branches(autojump_clock: MockClock) -> None:
    """The bomb is one step away, the other branch five, so rows 0 to 2 are still under way there when it fails."""
    kinds = Kinds()
    manifest = wire("a > bomb > z, a > b > c > d > e > f > z", bomb=("Bomb", {"at": 3}))
    async with opened(manifest, kinds) as session:
        for sequence in range(8):
            await session.send(note(sequence))
        events = await receive_all(session)
    assert [numbers(result, "z") for result in results(events)] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(("first", "second"), [(4, 2), (2, 4), (3, 3)])
async def test_of_several_failures_the_lowest_row_counts(first: int, second: int, autojump_clock: MockClock) -> None:
    kinds = Kinds()
    manifest = wire("a > near, a > b > c > d > far", near=("Bomb", {"at": first}), far=("Bomb", {"at": second}))
    async with opened(manifest, kinds) as session:
        for sequence in range(6):
            await session.send(note(sequence))
        events = await receive_all(session)
    lowest = min(first, second)
    assert [result.sequence for result in results(events)] == list(range(lowest))
    (failure,) = errors(events)
    assert failure.sequence == lowest
    may_be_named = {node for node, at in (("near", first), ("far", second)) if at == lowest}
    assert failure.node_id in may_be_named, "of two nodes that fail at one row, the first to reach it counts"


async def test_a_node_may_fail_when_it_finishes(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a", a=("Bomb", {"at": -1})), kinds) as session:
        await session.send(chunk(0))
        await session.flush()
        events = await receive_all(session)
    assert [type(event) for event in events] == [Result, NodeFailed, SessionMetrics]
    assert "boom at the end" in errors(events)[0].message


class Liar(Probe):
    """Declares that it gives data, and emits audio."""

    gives = Kind.DATA

    def treat(self, item: Item) -> Iterable[Item]:
        return (item,)


class Void(Probe):
    """Returns None instead of items."""

    def treat(self, item: Item) -> Iterable[Item]:
        return None  # type: ignore[return-value]


class Bare(Probe):
    """Returns its item itself, not in a list."""

    def treat(self, item: Item) -> Iterable[Item]:
        return item  # type: ignore[return-value]


class Mixed(Probe):
    """Emits audio of two rates for one chunk."""

    def treat(self, item: Item) -> Iterable[Item]:
        return (tone(rate=8_000), tone(rate=16_000)) if not isinstance(item, Data) else (item,)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Liar, "but declares that it gives data"),
        (Void, "returned None instead of a list of items"),
        (Bare, "instead of a list of items: yield each"),
        (Mixed, "audio of unlike formats"),
    ],
)
async def test_a_node_that_breaks_its_contract_has_failed(
    kind: type[Probe], why: str, autojump_clock: MockClock
) -> None:
    kinds = Kinds(kind)
    async with opened(wire("a > bad", bad=kind.__name__), kinds) as session:
        await session.send(chunk(0))
        events = await receive_all(session)
    (failure,) = errors(events)
    assert isinstance(failure, NodeFailed)
    assert (failure.node_id, failure.sequence) == ("bad", 0)
    assert why in failure.message
    assert failure.context["node_type"] == kind.__name__
    assert final(events).cancelled == 1


async def test_an_output_that_cannot_be_joined_ends_the_session_though_a_later_row_failed_before(
    autojump_clock: MockClock,
) -> None:
    """Outputs are joined on receipt. The session may have ended by then, and that end must not get lost."""
    kinds = Kinds(Mixed)
    async with opened(wire("a, b", a="Mixed", b=("Bomb", {"at": 1})), kinds) as session:
        for sequence in range(2):
            await session.send(chunk(sequence, "a"))
            await session.send(chunk(sequence, "b"))
        await wait_all_tasks_blocked()
        events = await receive_all(session)
    assert [(type(event), getattr(event, "node_id", "")) for event in events] == [
        (NodeFailed, "a"),
        (SessionMetrics, ""),
    ]


class Heavy(Probe):
    """Cannot report its memory once it has seen an item."""

    @property
    def memory_bytes(self) -> int:
        if self.seen:
            raise ZeroDivisionError("memory")
        return 0


class Shy(Probe):
    """Cannot report its own metrics once it has seen an item."""

    def custom_metrics(self) -> Mapping[str, Any]:
        return {"ratio": 1 / (not self.seen)}


@pytest.mark.parametrize("kind", [Heavy, Shy])
async def test_a_node_that_cannot_tell_its_figures_has_failed_and_hurts_no_other_session(
    kind: type[Probe], autojump_clock: MockClock
) -> None:
    """The sweep asks for the figures, and serves all sessions."""
    kinds = Kinds(kind)
    engine = Engine(kinds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        await wait_all_tasks_blocked()
        async with opened(wire("a"), kinds, engine=engine, metrics_interval_ms=50) as good:
            async with open_session(wire("bad", bad=kind.__name__), engine=engine) as bad:
                await bad.send(chunk(0))
                events = await receive_all(bad)
                (failure,) = errors(events)
                assert isinstance(failure, NodeFailed)
                assert failure.node_id == "bad"
                assert "ZeroDivisionError" in failure.message
                final(events)
            assert isinstance(await good.receive(), SessionMetrics)
        nursery.cancel_scope.cancel()


# ---- limits ----------------------------------------------------------------------------------


async def test_a_chunk_over_the_samples_limit_is_refused(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    limits = ResourceLimits(max_audio_samples=20)
    async with opened(wire("a"), kinds, limits=limits) as session:
        await session.send(Chunk(tone(10, channels=2), 0))
        await session.send(Chunk(tone(11, channels=2), 1))
        await session.send(Chunk(tone(1, channels=2), 2))
        await session.close()
        events = await receive_all(session)
    (error,) = errors(events)
    assert isinstance(error, SamplesLimitExceeded)
    assert error.sequence == 1
    assert error.context == {"value": 22, "limit": 20}
    assert (final(events).delivered, final(events).missing) == (2, 0)


async def test_a_chunk_over_the_memory_limit_is_refused(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, limits=ResourceLimits(max_memory_bytes=100)) as session:
        await session.send(chunk(0, n_frames=26))
        await session.send(chunk(1, n_frames=10))
        await session.close()
        events = await receive_all(session)
    (error,) = errors(events)
    assert isinstance(error, MemoryLimitExceeded)
    assert final(events).delivered == 1


async def test_an_output_over_the_memory_limit_rejects_its_row(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    manifest = wire("a > b > c, a > d", b=("Copies", {"times": 30}))
    async with opened(manifest, kinds, limits=ResourceLimits(max_memory_bytes=1_000)) as session:
        await session.send(chunk(0))
        await session.close()
        events = await receive_all(session)
    (error,) = errors(events)
    assert isinstance(error, MemoryLimitExceeded)
    assert (error.node_id, error.sequence) == ("b", 0)
    partial = results(events)[0]
    assert partial.status is Status.PARTIAL_SUCCESS
    assert set(partial.outputs) == {"d"}
    assert {node.node_id: node.status for node in partial.nodes}["b"] is NodeStatus.FAILED
    assert final(events).rejected == 1


async def test_what_nodes_hold_counts_as_memory(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    limits = ResourceLimits(max_memory_bytes=1_000)
    manifest = wire("a", a=("Hog", {"nbytes": 990}))
    async with opened(manifest, kinds, limits=limits) as session, trio.open_nursery() as nursery:
        await session.send(chunk(0))
        assert isinstance(await session.receive(), Result)
        await trio.sleep(MEMORY_S + 0.1)  # its memory has been polled by then
        nursery.start_soon(session.send, chunk(1))
        error = await session.receive()
        assert isinstance(error, MemoryLimitExceeded)
        assert session.metrics().peak_memory_bytes >= 990


async def test_a_limit_of_zero_asks_for_the_default_and_none_is_above_the_maximum() -> None:
    maxima = ResourceLimits(2_000, 3_000, 4_000)
    assert ResourceLimits().clamped(maxima) == maxima
    assert ResourceLimits(1, 2, 3).clamped(maxima) == ResourceLimits(1, 2, 3)
    assert ResourceLimits(9_000, 9_000, 9_000).clamped(maxima) == maxima
    assert ResourceLimits().clamped(DEFAULT_MAXIMA) == DEFAULT_LIMITS == ResourceLimits(100_000_000, 5_000, 10_000_000)


async def test_an_inline_node_that_takes_too_long_ends_the_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node holds the loop and with it the sweep, so its measured run time ends the session."""
    now = 0.0
    monkeypatch.setattr("engine.pipeline.single_input_task.perf_counter", lambda: now)

    class Slow(Probe):
        def treat(self, item: Item) -> Iterable[Item]:
            nonlocal now
            now += 1.9 if self.seen < 3 else 2.1
            return (item,)

    kinds = Kinds(Slow)
    async with opened(wire("a > slow", slow="Slow"), kinds, limits=ResourceLimits(max_timeout_ms=2_000)) as session:
        for sequence in range(4):
            await session.send(chunk(sequence))
        events = await receive_all(session)
    assert [result.sequence for result in results(events)] == [0, 1]
    (failure,) = errors(events)
    assert isinstance(failure, TimeLimitExceeded)
    assert (failure.node_id, failure.sequence) == ("slow", 2)
    assert failure.context["value_ms"] == pytest.approx(2_100)


# ---- nothing is left, whatever the way out ---------------------------------------------------


async def _close(session: Session) -> None:
    await session.close()
    await receive_all(session)


async def _cancel(session: Session) -> None:
    session.cancel()


async def _raise(session: Session) -> None:
    raise LookupError


async def _leave(session: Session) -> None:
    pass


async def _cancel_around(session: Session) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await session.receive()
        await trio.lowlevel.checkpoint()


WAYS: dict[str, Callable[[Session], Any]] = {
    "close": _close,
    "cancel": _cancel,
    "raise": _raise,
    "leave": _leave,
    "a cancelled receive, then leave": _cancel_around,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("waiting", [False, True])
async def test_every_way_out_leaves_nothing(
    way: Callable[[Session], Any], waiting: bool, autojump_clock: MockClock
) -> None:
    kinds = Kinds()
    manifest = wire("a > c > d, b > c, a > d", c="Lag", d="Meet")
    try:
        async with opened(manifest, kinds) as session:
            for sequence in (0, 1, 4, 2):
                await session.send(note(sequence, "a"))
                await session.send(note(sequence, "b"))
            await session.receive()
            if waiting:
                await wait_all_tasks_blocked()
            await way(session)
    except LookupError:
        pass
    assert len(kinds.built) == 4
    assert session.failure is None
