"""Test the sweep: one clock for all sessions, which a stall advances by at most 100 ms."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.runtime.sweep import MAX_STEP_S, TICK_S, Sweep


class Watched:
    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []

    def tick(self, clock: float, step: float) -> None:
        self.ticks.append((clock, step))


async def test_ticks_every_50_ms_and_stops_with_its_last_session(autojump_clock: MockClock) -> None:
    sweep, watched = Sweep(), Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep.run)
        await wait_all_tasks_blocked()
        sweep.add(watched)
        await trio.sleep(0.26)
        assert len(watched.ticks) == 5
        assert watched.ticks[-1] == pytest.approx((0.25, TICK_S))
        sweep.remove(watched)
        await trio.sleep(3_600)
        assert len(watched.ticks) == 5
        assert sweep.clock <= 0.31, "it must not tick without sessions"
        sweep.add(watched)
        await trio.sleep(0.06)
        assert len(watched.ticks) == 6
        nursery.cancel_scope.cancel()


async def test_a_stall_counts_for_100_ms(mock_clock: MockClock) -> None:
    sweep, watched = Sweep(), Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep.run)
        sweep.add(watched)
        await wait_all_tasks_blocked()
        mock_clock.jump(3_600)
        await wait_all_tasks_blocked()
        assert watched.ticks == [(MAX_STEP_S, MAX_STEP_S)]
        nursery.cancel_scope.cancel()


async def test_a_session_may_leave_while_others_are_looked_after(autojump_clock: MockClock) -> None:
    sweep, watched = Sweep(), Watched()

    class Leaver:
        def tick(self, clock: float, step: float) -> None:
            sweep.remove(self)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep.run)
        sweep.add(Leaver())
        sweep.add(watched)
        sweep.remove(Leaver())
        await trio.sleep(0.11)
        assert len(watched.ticks) == 2
        nursery.cancel_scope.cancel()
