"""Scheduler: a short row runs through the graph at once; the nodes' own tasks do the rows left over."""

from __future__ import annotations

from time import thread_time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import NodeFailed
from engine.messages import Result
from engine.pipeline.inbox import Inbox
from engine.pipeline.row import Packet, Row
from engine.session import Event, Session
from tests.engine.harness import (
    Kinds,
    errors,
    note,
    numbers,
    opened,
    receive_all,
    results,
    wire,
)

CHAIN = wire("a > b > c > d, a > d")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the limit of a scheduler run, because the machine may be busy."""
    monkeypatch.setattr("engine.pipeline.scheduler.MAX_RUN_S", 3600.0)


def packet(sequence: int) -> Packet:
    return Packet(Row(sequence), (), 0.0, 0, 1)


def test_a_row_is_whole_when_every_edge_has_brought_it() -> None:
    inbox = Inbox(2, 4)
    assert not inbox.put(0, packet(0))
    assert not inbox.put(0, packet(1))
    assert inbox.take() is None
    assert inbox.put(1, packet(0))
    assert inbox.whole_rows == 1
    taken = inbox.take()
    assert taken is not None
    assert [each.row.sequence for each in taken] == [0, 0]
    assert inbox.take() is None


def test_an_edge_holds_no_more_than_its_capacity() -> None:
    inbox = Inbox(1, 2)
    inbox.put(0, packet(0))
    inbox.put(0, packet(1))
    with pytest.raises(trio.WouldBlock):
        inbox.put(0, packet(2))


@pytest.mark.usefixtures("unhurried")
async def test_a_chunk_offered_at_once_has_been_through_the_graph_before_any_other_task_runs(
    autojump_clock: MockClock,
) -> None:
    kinds = Kinds()
    async with opened(CHAIN, kinds) as session:
        assert session.offer(note(0), at_once=True)
        assert [node.seen for node in kinds.built] == [1, 1, 1, 2]
        session.cancel()


@pytest.mark.usefixtures("unhurried")
async def test_a_result_is_shown_at_once_to_a_user_that_waits_for_it(autojump_clock: MockClock) -> None:
    shown: list[Event] = []

    def takes(event: Event) -> bool:
        shown.append(event)
        return len(shown) != 2

    async with opened(CHAIN, Kinds()) as session, trio.open_nursery() as nursery:
        session.show_to(takes)
        session.offer(note(0), at_once=True)
        assert not shown, "the user does not wait yet"
        assert isinstance(await session.receive(), Result)
        received: list[Event] = []
        nursery.start_soon(_receive_into, received, session)
        await wait_all_tasks_blocked()
        for sequence in (1, 2):
            session.offer(note(sequence), at_once=True)
        assert [numbers(result, "d") for result in results(shown)] == [[1, 1], [2, 2]]
        await wait_all_tasks_blocked()
        assert received == shown[1:], "an event not taken is left to receive"
        assert session.metrics().delivered == 2, "a taken event has been handed over"
        session.cancel()


async def _receive_into(received: list[Event], session: Session) -> None:
    event = await session.receive()
    assert event is not None
    received.append(event)


async def test_a_chunk_that_is_sent_waits_for_the_nodes_tasks(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(CHAIN, kinds) as session:
        assert session.offer(note(0))
        assert [node.seen for node in kinds.built] == [0, 0, 0, 0]
        await wait_all_tasks_blocked()
        assert [node.seen for node in kinds.built] == [1, 1, 1, 2]
        session.cancel()


async def test_what_a_long_turn_leaves_is_done_by_the_nodes_own_tasks(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipeline.scheduler.MAX_RUN_S", -1.0)
    kinds = Kinds()
    async with opened(CHAIN, kinds) as session:
        assert session.offer(note(0), at_once=True)
        assert [node.seen for node in kinds.built] == [1, 0, 0, 0]
        await wait_all_tasks_blocked()
        assert [node.seen for node in kinds.built] == [1, 1, 1, 2]
        event = await session.receive()
        assert isinstance(event, Result)
        assert numbers(event, "d") == [0, 0]
        session.cancel()


async def test_after_a_failure_a_node_does_no_more_rows_of_the_same_turn(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > bomb > z", bomb=("Bomb", {"at": 1})), kinds) as session:
        for sequence in range(4):
            session.offer(note(sequence))
        events = await receive_all(session)
    assert [numbers(result, "z") for result in results(events)] == [[0]]
    assert [type(error) for error in errors(events)] == [NodeFailed]
    assert kinds.built[1].seen == 2


async def test_the_cpu_time_of_a_row_is_that_of_its_own_way(autojump_clock: MockClock) -> None:
    """Each row is charged with the time spent on it, and none is charged twice: the sum is within the thread's time."""
    kinds = Kinds()
    async with opened(CHAIN, kinds) as session:
        began = _thread_ms()
        for sequence in range(20):
            session.offer(note(sequence), at_once=sequence % 2 == 0)
        await session.close()
        events = await receive_all(session)
        spent = _thread_ms() - began
    charged = [result.cpu_ms for result in results(events)]
    assert len(charged) == 21
    assert all(ms > 0 for ms in charged)
    assert sum(charged) <= spent


def _thread_ms() -> float:
    return thread_time() * 1e3
