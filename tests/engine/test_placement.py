"""Test nodes in threads, abandoned calls above all, and the watchdog for inline nodes.

A `threading.Event` blocks a call until the test sets it. Time is virtual: it stands still unless a test moves it, so a
blocked thread takes no time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import AtCapacity, NodeFailed, NodeRefused, TimeLimitExceeded
from engine.limits import ResourceLimits
from engine.messages import Result
from engine.runtime import placement
from engine.runtime.engine import Engine
from engine.runtime.placement import Threads
from engine.runtime.watchdog import Watchdog
from engine.session import open_session
from nodes.contract import InvalidInput, Item, parameter
from tests.engine.harness import (
    Kinds,
    Probe,
    Stuck,
    chunk,
    errors,
    final,
    note,
    number_of,
    numbers,
    receive_all,
    results,
    wire,
)


class Owner:
    """Owner of work that runs in a thread; counts its closes."""

    def __init__(self) -> None:
        self.abandoned = False
        self.closed = threading.Event()
        self.closes = 0

    def close(self) -> None:
        self.closes += 1
        self.closed.set()


async def until(happened: Callable[[], bool]) -> None:
    """Run the event loop until something that a thread does has happened."""
    while not happened():
        await trio.lowlevel.checkpoint()


async def abandon(threads: Threads, gate: threading.Event, owner: Owner) -> None:
    """Start a call that blocks on `gate`, and abandon it."""
    entered = threading.Event()

    def work() -> None:
        entered.set()
        assert gate.wait(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, [work], owner)
        await until(entered.is_set)
        nursery.cancel_scope.cancel()


async def test_a_call_gives_what_its_work_gives() -> None:
    threads = Threads()
    (there,) = await threads.run([threading.get_ident], Owner())
    assert there.unwrap() != threading.get_ident()


async def test_a_call_does_its_items_in_order_in_one_thread_up_to_the_first_that_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "BATCH_S", 600.0)
    done: list[tuple[int, int]] = []

    def item(number: int) -> int:
        done.append((number, threading.get_ident()))
        return 6 // number

    came = await Threads().run([partial(item, number) for number in (3, 2, 1, 0, 1)], Owner())
    assert [each.unwrap() for each in came[:-1]] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        came[-1].unwrap()
    assert [number for number, _ in done] == [3, 2, 1, 0]
    assert len({thread for _, thread in done}) == 1


async def test_a_call_that_has_taken_its_time_leaves_the_rest_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "BATCH_S", -1.0)
    assert len(await Threads().run([int, int, int], Owner())) == 1


async def test_an_abandoned_call_stops_after_the_item_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "BATCH_S", 600.0)
    threads, gate, owner, entered, more = Threads(), threading.Event(), Owner(), threading.Event(), []

    def first() -> None:
        entered.set()
        assert gate.wait(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, [first, lambda: more.append(1)], owner)
        await until(entered.is_set)
        nursery.cancel_scope.cancel()
    gate.set()
    await until(lambda: not threads.straggling)
    assert owner.closes == 1
    assert not more


async def test_no_more_calls_run_at_once_than_there_are_slots() -> None:
    threads = Threads(slots=2)
    lock, running, most = threading.Lock(), 0, 0
    gate = threading.Barrier(2)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(60)  # passes only when two calls are here together
        with lock:
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(threads.run, [work], Owner())
    assert most == 2


async def test_an_abandoned_call_closes_its_owner_when_it_returns() -> None:
    threads, gate, owner = Threads(), threading.Event(), Owner()
    await abandon(threads, gate, owner)
    assert owner.abandoned
    assert threads.straggling == 1
    assert not owner.closes
    gate.set()
    await until(lambda: not threads.straggling)
    assert owner.closes == 1


async def test_an_abandoned_call_keeps_its_slot_until_it_returns() -> None:
    threads, gate = Threads(slots=1), threading.Event()
    await abandon(threads, gate, Owner())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, [int], Owner())
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        gate.set()


async def test_a_close_that_fails_in_an_abandoned_call_frees_its_slot_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Sticky(Owner):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    threads, gate, owner = Threads(slots=1), threading.Event(), Sticky()
    await abandon(threads, gate, owner)
    gate.set()
    await until(owner.closed.is_set)
    assert [each.unwrap() for each in await threads.run([lambda: 7], Owner())] == [7]
    assert threads.straggling == 0
    assert "stuck" in caplog.text


async def test_the_list_of_abandoned_calls_is_bounded() -> None:
    threads, gate = Threads(slots=4, stragglers=2), threading.Event()
    await abandon(threads, gate, Owner())
    assert not threads.is_full
    await abandon(threads, gate, Owner())
    assert threads.is_full
    gate.set()
    await until(lambda: not threads.straggling)
    assert not threads.is_full


# ---- in a session ----------------------------------------------------------------------------


@attrs.define(eq=False, slots=False)
class Slow(Probe):
    """Node in a thread that waits for the gate at 0, rejects 3, and fails at `fatal`."""

    placement = "thread"
    gate: ClassVar[threading.Event]
    fatal: int = parameter(-1, help="the number that it fails at")

    def treat(self, item: Item) -> Iterable[Item]:
        number = number_of(item)
        if number == 0:
            assert self.gate.wait(60)
        if number == 3:
            raise InvalidInput("not three")
        if number == self.fatal:
            raise RuntimeError("boom")
        return [item]


@pytest.mark.parametrize("fatal", [-1, 6])
async def test_rows_that_wait_go_in_one_call_each_with_its_own_end(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    """Row 0 is alone in the first call; meanwhile nine rows and the flush arrive for the second; only 3 is rejected."""
    monkeypatch.setattr(placement, "BATCH_S", 600.0)
    calls: list[int] = []
    plain = Threads.run

    async def counted(self: Threads, items: Sequence[Callable[[], object]], owner: Owner) -> object:
        calls.append(len(items))
        return await plain(self, items, owner)

    monkeypatch.setattr(Threads, "run", counted)
    kinds = Kinds(Slow)
    async with open_session(wire("a > slow", slow=("Slow", {"fatal": fatal})), registry=kinds) as session:
        await session.send(note(0))
        await wait_all_tasks_blocked()
        for sequence in range(1, 10):
            await session.send(note(sequence))
        await session.close()
        await wait_all_tasks_blocked()
        kinds.gate.set()
        events = await receive_all(session)
    got = [n for result in results(events) for n in numbers(result, "slow")]
    assert calls == [1, 10]
    assert got == ([0, 1, 2, 4, 5] if fatal == 6 else [0, 1, 2, 4, 5, 6, 7, 8, 9])
    told = errors(events)
    assert [(type(error), error.sequence) for error in told] == [(NodeRefused, 3), *[(NodeFailed, 6)] * (fatal == 6)]
    kinds.assert_closed_once()


async def test_a_node_is_not_asked_for_its_figures_while_a_thread_is_at_work_on_it(mock_clock: MockClock) -> None:
    class Shy(Stuck):
        @property
        def memory_bytes(self) -> int:
            assert self.seen == 0, "asked in the middle of its work"
            return 7

        def treat(self, item: Item) -> Iterable[Item]:
            given = super().treat(item)
            self.seen = 0
            return given

    kinds = Kinds(Shy)
    async with open_session(wire("shy", shy="Shy"), registry=kinds) as session:
        assert session.metrics().figures["shy"].memory_bytes == 7
        await session.send(note(0))
        await until(lambda: kinds.entered.acquire(blocking=False))
        assert session.metrics().figures["shy"].memory_bytes == 7
        kinds.gate.set()
        await session.close()
        assert not errors(await receive_all(session))


@pytest.mark.parametrize(("limit_ms", "named"), [(1e-6, True), (0, False), (1e9, False)])
async def test_an_inline_node_that_holds_the_loop_is_named(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture, limit_ms: float, named: bool
) -> None:
    kinds = Kinds()
    engine = Engine(kinds, watchdog=Watchdog(limit_ms))
    async with open_session(wire("a > t", t="Threaded"), engine=engine) as session:
        for sequence in range(3):
            await session.send(note(sequence))
        await session.close()
        told = final(await receive_all(session)).figures
    holds = json.loads(told["a"].custom_metrics or "{}").get("event_loop_holds", {})
    assert holds.get("count", 0) == (4 if named else 0), "three rows and the flush"
    assert (holds.get("longest_ms") == told["a"].max_run_ms) == named
    assert not told["t"].custom_metrics, "a node in a thread holds no loop"
    assert set(engine.watchdog.holds) == ({"Pass"} if named else set())
    assert caplog.text.count("held the event loop") == named, "once, however often"
    assert ("node 'a' (Pass)" in caplog.text) == named


@pytest.mark.parametrize(
    ("cpu", "advice"), [(0.04, "a slow node should"), (0.001, "the machine was busy, or it waits")]
)
def test_the_log_tells_the_slow_from_those_that_wait(caplog: pytest.LogCaptureFixture, cpu: float, advice: str) -> None:
    Watchdog(20).note("a", "Any", 0.05, cpu)
    assert advice in caplog.text


async def test_a_node_that_still_holds_the_loop_is_named_with_the_line_that_it_is_at(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Endless(Probe):
        def treat(self, item: Item) -> Iterable[Item]:
            assert named.wait(60), "the watchdog did not name it while it ran"
            return [item]

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "still does" in record.getMessage():
                named.set()

    named = threading.Event()
    engine = Engine(Kinds(Endless), watchdog=Watchdog(limit_ms=10))
    logging.getLogger("headrace.engine").addHandler(told := Told())
    try:
        with engine.watchdog.watching(interval_s=0.01):
            async with open_session(wire("a > b", b="Endless"), engine=engine) as session:
                await session.send(note(0))
                await session.close()
                assert not errors(await receive_all(session))
    finally:
        logging.getLogger("headrace.engine").removeHandler(told)
    assert "node 'b' (Endless) has held the event loop for more than 0.01 s" in caplog.text
    assert "in treat\n    assert named.wait" in caplog.text


async def test_nodes_in_threads_keep_order_state_and_tails(mock_clock: MockClock) -> None:
    class Elsewhere(Probe):
        placement = "thread"

        def treat(self, item: object) -> list[object]:  # type: ignore[override]
            assert threading.current_thread() is not threading.main_thread()
            return [item]

    kinds = Kinds(Elsewhere)
    async with open_session(wire("a > b > c", b="Elsewhere", c="Threaded"), registry=kinds) as session:
        for sequence in range(10):
            await session.send(note(sequence))
        await session.close()
        got = results(await receive_all(session))
    assert [numbers(result, "c") for result in got] == [*([n] for n in range(10)), []]
    assert [node.finishes for node in kinds.built] == [1, 1, 1]
    kinds.assert_closed_once()


async def test_a_cancelled_session_ends_at_once_and_its_node_is_closed_when_the_call_returns(
    mock_clock: MockClock,
) -> None:
    kinds = Kinds()
    engine = Engine(kinds)
    async with open_session(wire("a > stuck", stuck="Stuck"), engine=engine) as session:
        await session.send(chunk(0))
        await until(lambda: kinds.entered.acquire(blocking=False))
        session.cancel()
        assert final(await receive_all(session)).cancelled == 1
    stuck = next(node for node in kinds.built if type(node).__name__ == "Stuck")
    assert [node.closes for node in kinds.built if node is not stuck] == [1]
    assert (stuck.closes, engine.threads.straggling) == (0, 1)
    kinds.gate.set()
    await until(lambda: not engine.threads.straggling)
    kinds.assert_closed_once()


async def test_no_session_is_admitted_while_too_many_calls_are_abandoned(mock_clock: MockClock) -> None:
    kinds = Kinds()
    engine = Engine(kinds, threads=Threads(stragglers=1))
    async with open_session(wire("stuck", stuck="Stuck"), engine=engine) as session:
        await session.send(chunk(0))
        await until(lambda: kinds.entered.acquire(blocking=False))
    with pytest.raises(AtCapacity, match="1 abandoned"):
        await open_session(wire("a"), engine=engine).__aenter__()
    assert len(kinds.built) == 1, "no node is built for a session that is not admitted"
    kinds.gate.set()
    await until(lambda: not engine.threads.straggling)
    async with open_session(wire("a"), engine=engine):
        pass
    kinds.assert_closed_once()


async def test_a_node_that_takes_too_long_ends_the_session_with_an_error_that_names_it(
    autojump_clock: MockClock,
) -> None:
    kinds = Kinds()
    engine = Engine(kinds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        manifest = wire("a > stuck > end, a > quick", stuck="Stuck")
        limits = ResourceLimits(max_timeout_ms=2_000)
        began = trio.current_time()
        async with open_session(manifest, engine=engine, limits=limits) as session:
            await session.send(chunk(3))
            events = await receive_all(session)
        took = trio.current_time() - began
        kinds.gate.set()
        await until(lambda: not engine.threads.straggling)
        nursery.cancel_scope.cancel()
    (failure,) = errors(events)
    assert isinstance(failure, TimeLimitExceeded)
    assert (failure.node_id, failure.sequence) == ("stuck", 3)
    assert failure.context["limit_ms"] == 2_000
    assert failure.context["waits_for"] == ["stuck"]
    assert 2.0 <= took <= 2.2
    assert final(events).cancelled == 1
    kinds.assert_closed_once()


async def test_a_stall_of_the_loop_counts_for_100_ms_at_most(mock_clock: MockClock) -> None:
    """The clock leaps by an hour, as if another session's node had held the loop; no time limit is exceeded."""
    kinds = Kinds()
    limits = ResourceLimits(max_timeout_ms=1_000)
    async with open_session(wire("stuck", stuck="Stuck"), registry=kinds, limits=limits) as session:
        await session.send(chunk(0))
        await until(lambda: kinds.entered.acquire(blocking=False))
        for _ in range(9):
            mock_clock.jump(3_600)
            await wait_all_tasks_blocked()
        assert session.failure is None
        kinds.gate.set()
        event = await session.receive()
        while not isinstance(event, Result):
            event = await session.receive()
    kinds.assert_closed_once()


async def test_an_unread_result_runs_into_no_time_limit(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with open_session(wire("a"), registry=kinds, limits=ResourceLimits(max_timeout_ms=100)) as session:
        await session.send(chunk(0))
        await trio.sleep(600)
        assert isinstance(await session.receive(), Result)
        assert session.failure is None
