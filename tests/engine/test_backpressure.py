"""Bounds with a consumer that does not read: credits, memory, periodic metrics, and the policies that drop rows."""

from __future__ import annotations

from time import perf_counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import MemoryLimitExceeded
from engine.limits import Overflow, ResourceLimits, SessionOptions, clamp_options
from engine.messages import Result, SessionMetrics
from engine.session import Session
from tests.engine.harness import (
    Kinds,
    chunk,
    errors,
    final,
    note,
    numbers,
    opened,
    receive_all,
    results,
    wire,
)


class Sender:
    """Sends chunks for ever, and counts the taken ones."""

    def __init__(self, session: Session, n_frames: int = 10) -> None:
        self.session, self.n_frames, self.sent = session, n_frames, 0

    async def run(self) -> None:
        while True:
            await self.session.send(chunk(self.sent, n_frames=self.n_frames))
            self.sent += 1


@pytest.mark.parametrize("capacity", [1, 2, 5, 32])
async def test_a_consumer_that_does_not_receive_stops_the_sender_after_w_chunks(
    capacity: int, autojump_clock: MockClock
) -> None:
    kinds = Kinds()
    async with (
        opened(wire("a > b > d, a > c > d"), kinds, input_capacity=capacity) as session,
        trio.open_nursery() as nursery,
    ):
        assert session.ready.input_capacity == capacity
        sender = Sender(session)
        nursery.start_soon(sender.run)
        await wait_all_tasks_blocked()
        assert sender.sent == capacity
        await trio.sleep(100)
        assert sender.sent == capacity
        for received in range(1, 8):
            assert isinstance(await _result(session), Result)
            await wait_all_tasks_blocked()
            assert sender.sent == capacity + received - 1, "only the next call of receive hands the last result over"
        nursery.cancel_scope.cancel()


async def _result(session: Session) -> Result:
    while not isinstance(event := await session.receive(), Result):
        assert isinstance(event, SessionMetrics)
    return event


async def test_memory_stays_flat_before_a_consumer_that_does_not_receive(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds) as session, trio.open_nursery() as nursery:
        nursery.start_soon(Sender(session, n_frames=1_000).run)
        await wait_all_tasks_blocked()
        peak = session.metrics().peak_memory_bytes
        assert peak <= 32 * 4_000 * 2
        await trio.sleep(500)
        for _ in range(100):
            await _result(session)
        assert session.metrics().peak_memory_bytes <= 32 * 4_000 * 2
        nursery.cancel_scope.cancel()


async def test_the_memory_limit_stops_the_sender_before_the_credits_do(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    limits = ResourceLimits(max_memory_bytes=1_000)
    async with opened(wire("a > b"), kinds, limits=limits) as session, trio.open_nursery() as nursery:
        sender = Sender(session, n_frames=50)  # 200 bytes
        nursery.start_soon(sender.run)
        await wait_all_tasks_blocked()
        assert sender.sent == 5
        await _result(session)
        await _result(session)
        await wait_all_tasks_blocked()
        assert sender.sent == 6
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("graph", "kinds_of"),
    [
        ("a > b > c", {}),
        ("a > b > d, a > c > d", {"b": "Lag", "d": "Meet"}),
        ("a > picky > b, a > c", {"picky": "Picky"}),
        ("a > sieve > b", {"sieve": "Sieve"}),
    ],
)
async def test_every_byte_that_is_taken_comes_back(
    graph: str, kinds_of: dict[str, str], autojump_clock: MockClock
) -> None:
    """With a limit of a few chunks, one byte lost for each of a thousand would refuse a chunk or block the client."""
    kinds = Kinds()
    limits = ResourceLimits(max_memory_bytes=20_000)
    async with (
        opened(wire(graph, **kinds_of), kinds, limits=limits, input_capacity=8) as session,
        trio.open_nursery() as nursery,
    ):

        async def send() -> None:
            for sequence in range(1_000):
                await session.send(chunk(sequence, n_frames=100))
                if sequence % 100 == 99:
                    await session.flush()
            await session.close()

        nursery.start_soon(send)
        events = await receive_all(session)
    assert not any(isinstance(error, MemoryLimitExceeded) for error in errors(events))
    assert len(results(events)) == 1_000 + 11


async def test_a_sender_that_waits_for_memory_is_freed_when_old_rows_are_dropped(autojump_clock: MockClock) -> None:
    """Row 2 waits for row 1 and is made ready to make room. It is too old then, and nothing is under way any more."""
    kinds = Kinds()
    limits = ResourceLimits(max_memory_bytes=100)
    async with opened(wire("a"), kinds, limits=limits, max_age_ms=600_000, within=5) as session:
        await session.send(chunk(0))
        await _result(session)
        await session.send(chunk(2, received_at=perf_counter() - 3_600))
        task = session.receive
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)  # hands the result of row 0 over
            await session.send(chunk(3, n_frames=20))
            nursery.cancel_scope.cancel()
        assert session.metrics().dropped == 1


# ---- where rows may be dropped ---------------------------------------------------------------


async def test_drop_oldest_keeps_the_freshest(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, overflow=Overflow.DROP_OLDEST, input_capacity=4) as session:
        for sequence in range(20):
            assert session.offer(note(sequence)), "a client that may be dropped is never made to wait"
        await session.close()
        events = await receive_all(session)
    kept = [result.sequence for result in results(events) if not result.flush]
    assert kept == [0, 1, 19]
    account = final(events)
    assert (account.accepted, account.delivered, account.dropped, account.missing) == (20, 3, 17, 0)


async def test_drop_newest_keeps_the_first(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, overflow=Overflow.DROP_NEWEST, input_capacity=4) as session:
        for sequence in range(20):
            assert session.offer(note(sequence))
        got = [(await _result(session)).sequence for _ in range(4)]
        assert got == [0, 1, 2, 3]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.close)
            events = await receive_all(session)
    account = final(events)
    assert (account.delivered, account.dropped) == (4, 16)


@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
async def test_refusals_pile_up_no_higher_than_the_credits(overflow: Overflow, autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, overflow=overflow, input_capacity=3) as session:
        taken = 0
        for _ in range(50):
            taken += session.offer(chunk(7))
        assert taken <= 2 * 3 + 1
        session.cancel()


# ---- periodic metrics ------------------------------------------------------------------------


async def test_metrics_come_at_their_interval(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, metrics_interval_ms=250) as session:
        for wanted in (0.25, 0.5, 0.75):
            event = await session.receive()
            assert isinstance(event, SessionMetrics)
            assert not event.final
            assert trio.current_time() == pytest.approx(wanted, abs=0.06)


async def test_of_metrics_nobody_reads_one_waits_and_tells_of_the_moment_it_is_read(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await trio.sleep(60)
        await session.send(chunk(0))
        await session.close()
        first, *rest = await receive_all(session)
    assert isinstance(first, SessionMetrics)
    assert first.received == 1, "the latest wins"
    assert [type(event) for event in rest] == [Result, Result, SessionMetrics]


async def test_an_interval_is_50_ms_at_least() -> None:
    assert clamp_options(SessionOptions(metrics_interval_ms=1)).metrics_interval_ms == 50
    assert clamp_options(SessionOptions()) == SessionOptions(32, 16, 200, metrics_interval_ms=1_000)
    assert clamp_options(SessionOptions(9_999, 9_999, 99_999)) == SessionOptions(
        1_024, 1_024, 60_000, metrics_interval_ms=1_000
    )


async def test_latency_runs_until_a_response_has_been_handed_over(autojump_clock: MockClock) -> None:
    """The end is not the put into a queue: before the next call of `receive`, nothing counts as delivered."""
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0, received_at=perf_counter() - 60))
        await _result(session)
        assert session.metrics().max_latency_ms == 0
        assert session.metrics().delivered == 0
        with trio.move_on_after(0.01):
            await session.receive()
        account = session.metrics()
        assert account.max_latency_ms > 0
        assert account.delivered == 1
        assert account.average_latency_ms == pytest.approx(account.p50_latency_ms, rel=0.02)


async def test_the_account_has_figures_of_every_node(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > sieve > c", sieve=("Sieve", {"every": 2})), kinds) as session:
        for sequence in range(6):
            await session.send(chunk(sequence, n_frames=8))
        await session.close()
        events = await receive_all(session)
    figures = final(events).figures
    assert {name: (each.chunks, each.samples) for name, each in figures.items()} == {
        "a": (6, 48),
        "sieve": (6, 48),
        "c": (3, 24),
    }
    assert final(events).total_samples == 48
    assert [numbers(result, "c") for result in results(events)] == [[0], [], [16], [], [32], [], []]


async def test_a_second_close_drops_nothing(autojump_clock: MockClock) -> None:
    """A second CLOSE needs no credit, so it must not make room for one."""
    async with opened(wire("a"), Kinds(), input_capacity=4, overflow=Overflow.DROP_OLDEST) as session:
        for sequence in range(3):
            await session.send(chunk(sequence))
        assert session.try_flush(final=True)
        assert session.try_flush(final=True)
        account = final(await receive_all(session))
    assert (account.delivered, account.dropped) == (3, 0)
