"""A running session: order, fan-out and fan-in, empty outputs, taps, FLUSH and CLOSE."""

from __future__ import annotations

import gc

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import (
    ChunkRefused,
    DuplicateChunk,
    EngineError,
    LateChunk,
    NodeRefused,
    SessionClosed,
    UnknownSource,
)
from engine.messages import BadChunk, Chunk, NodeStatus, Result, Status
from engine.session import Event, Session
from nodes.contract import Audio, Data
from tests.engine.harness import (
    Kinds,
    chunk,
    errors,
    final,
    note,
    number_of,
    numbers,
    opened,
    receive_all,
    results,
    tone,
    wire,
)

# ---- order -----------------------------------------------------------------------------------


async def test_results_leave_in_sequence_order_whatever_the_branches_speeds(mock_clock: MockClock) -> None:
    """One branch hops through threads, the other does not: results are whole rows, in order.

    The clock stands still, because it would jump ahead while a thread works.
    """
    kinds = Kinds()
    async with opened(wire("in > slow > end, in > fast > end", slow="Threaded"), kinds) as session:
        for sequence in (0, 2, 1, 3, 5, 4):
            await session.send(note(sequence))
        await session.close()
        got = results(await receive_all(session))
    assert [result.sequence for result in got] == [0, 1, 2, 3, 4, 5, 5]
    assert [numbers(result, "end") for result in got[:-1]] == [[n, n] for n in range(6)]


@pytest.mark.parametrize(
    "graph",
    ["a > x > z, a > y > z", "a > z, a > b > z, a > b > c > z", "a > b > z, a > c > z, b > c"],
)
async def test_fan_in_is_aligned_however_long_the_branches(graph: str, autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire(graph, z="Meet"), kinds) as session:
        for sequence in range(20):
            await session.send(note(sequence))
        await session.close()
        got = results(await receive_all(session))
    for sequence, result in enumerate(got[:20]):
        (met,) = result.items["z"]
        assert isinstance(met, Data)
        flat = {number for branch in met.value.values() for number in branch}
        assert flat == {sequence}


async def test_several_sources_meet_by_sequence(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > z, b > z", z="Meet"), kinds) as session:
        for source, sequence in (("a", 0), ("a", 1), ("b", 0), ("b", 2), ("a", 2), ("b", 1)):
            await session.send(note(sequence, source))
        await session.close()
        got = results(await receive_all(session))
    assert [result.items["z"][0] for result in got[:3]] == [Data({"a": [n], "b": [n]}) for n in range(3)]


async def test_an_empty_output_keeps_the_row_and_its_place(autojump_clock: MockClock) -> None:
    """An item dropped by one branch does not affect the other: it neither waits nor slips by a row."""
    kinds = Kinds()
    async with opened(wire("a > sieve > z, a > z", sieve=("Sieve", {"every": 2}), z="Meet"), kinds) as session:
        for sequence in range(4):
            await session.send(note(sequence))
        await session.close()
        got = results(await receive_all(session))
    assert [result.items["z"][0] for result in got[:4]] == [
        Data({"sieve": [] if n % 2 else [n], "a": [n]}) for n in range(4)
    ]


async def test_a_row_whose_sinks_gave_nothing_has_a_result_all_the_same(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b", a=("Sieve", {"every": 1})), kinds) as session:
        await session.send(chunk(0))
        (result,) = [await session.receive()]
        assert isinstance(result, Result)
        assert result.outputs == {}
        assert result.status is Status.PARTIAL_SUCCESS
        assert [(node.node_id, node.status) for node in result.nodes] == [
            ("a", NodeStatus.SUCCESS),
            ("b", NodeStatus.SKIPPED),
        ]


async def test_an_edge_carries_only_the_kinds_that_its_target_takes(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("in > hear, in > read", hear="Hear", read="Read"), kinds) as session:
        await session.send(chunk(0))
        await session.send(note(1))
        await session.close()
        first, second, _ = results(await receive_all(session))
    assert set(first.outputs) == {"hear"}
    assert set(second.outputs) == {"read"}


# ---- outputs ---------------------------------------------------------------------------------


async def test_outputs_of_sinks_and_of_taps_are_returned_and_no_others(autojump_clock: MockClock) -> None:
    manifest = wire("a > b > c, a > d")
    tapped = tuple(attrs.evolve(node, is_output=node.id == "b") for node in manifest.nodes)
    kinds = Kinds()
    async with opened(attrs.evolve(manifest, nodes=tapped), kinds) as session:
        await session.send(note(0))
        await session.close()
        first, *_ = results(await receive_all(session))
    assert set(first.outputs) == {"b", "c", "d"}


async def test_audio_of_one_result_is_joined_and_data_by_the_nodes_join(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a", a="Copies"), kinds) as session:
        await session.send(chunk(0, n_frames=5))
        await session.send(note(1))
        await session.close()
        audio, data, _ = results(await receive_all(session))
    joined = audio.outputs["a"].audio
    assert joined is not None
    assert joined.frames.shape == (10, 1)
    assert data.outputs["a"].data == Data({"items": [{"n": 1}, {"n": 1}]})


async def test_a_chunk_is_placed_after_those_before_it(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        for sequence, n_frames in ((0, 10), (1, 20), (3, 5)):
            await session.send(chunk(sequence, n_frames=n_frames))
        await session.close()
        got = results(await receive_all(session))
    assert [numbers(result, "a") for result in got] == [[0], [10], [50], []]


async def test_results_echo_the_capture_time_and_tell_of_every_node(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds) as session:
        await session.send(chunk(0, n_frames=7, timestamp_ms=1234))
        event = await session.receive()
        assert isinstance(event, Result)
        assert event.timestamp_ms == 1234
        assert event.status is Status.SUCCESS
        assert {name: (each.chunks, each.samples) for name, each in event.figures.items()} == {
            "a": (1, 7),
            "b": (1, 7),
        }


async def test_lean_results_have_no_maps_of_nodes(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds, lean=True) as session:
        await session.send(chunk(0))
        event = await session.receive()
        assert isinstance(event, Result)
        assert (event.nodes, event.figures) == ((), {})
        assert set(event.outputs) == {"b"}


# ---- refusals --------------------------------------------------------------------------------


async def test_a_refused_chunk_is_answered_and_the_session_goes_on(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0))
        await session.send(chunk(0))
        await session.send(chunk(1, source="ignore"))
        await session.send(BadChunk(ChunkRefused("garbled"), 1))
        await session.send(chunk(2))
        await session.close()
        events = await receive_all(session)
    assert [type(error) for error in errors(events)] == [DuplicateChunk, UnknownSource, ChunkRefused]
    assert [error.sequence for error in errors(events)] == [0, 1, 1]
    assert [result.sequence for result in results(events)] == [0, 2, 2]
    account = final(events)
    assert (account.received, account.refused, account.delivered, account.missing) == (5, 3, 2, 0)


async def test_the_format_is_fixed_until_a_flush(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(Chunk(tone(rate=16_000), 0))
        await session.send(Chunk(tone(rate=8_000), 1))
        await session.flush()
        await session.send(Chunk(tone(rate=8_000), 2))
        await session.close()
        events = await receive_all(session)
    (error,) = errors(events)
    assert (type(error), error.sequence) == (ChunkRefused, 1)
    assert "f32 at 16000 Hz with 1 channel" in error.message
    assert final(events).missing == 0


async def test_a_refused_chunk_does_not_fix_the_format(autojump_clock: MockClock) -> None:
    """A late chunk of the old format, after a FLUSH, must not shut out the new format."""
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(Chunk(tone(rate=16_000), 1))
        await session.flush()
        await session.send(Chunk(tone(rate=16_000), 0))
        await session.send(Chunk(tone(rate=8_000), 2))
        await session.close()
        events = await receive_all(session)
    assert [type(error) for error in errors(events)] == [LateChunk]
    assert final(events).delivered == 2


async def test_a_node_that_refuses_gives_an_error_before_a_partial_result(autojump_clock: MockClock) -> None:
    """The other branch keeps its outputs, and the session continues."""
    kinds = Kinds()
    manifest = wire("a > picky > end, a > other", picky=("Picky", {"every": 2}))
    async with opened(manifest, kinds) as session:
        for sequence in range(3):
            await session.send(chunk(sequence))
        await session.close()
        events = await receive_all(session)
    refusal = events[1]
    assert isinstance(refusal, NodeRefused)
    assert (refusal.node_id, refusal.sequence) == ("picky", 1)
    assert refusal.context == {
        "node_type": "Picky",
        "params": {"every": 2},
        "inputs": ["10x1 f32 at 16000 Hz"],
    }
    partial = events[2]
    assert isinstance(partial, Result)
    assert partial.status is Status.PARTIAL_SUCCESS
    assert set(partial.outputs) == {"other"}
    assert {node.node_id: node.status for node in partial.nodes} == {
        "a": NodeStatus.SUCCESS,
        "picky": NodeStatus.FAILED,
        "end": NodeStatus.SKIPPED,
        "other": NodeStatus.SUCCESS,
    }
    account = final(events)
    assert (account.delivered, account.rejected) == (2, 1)


async def test_every_node_that_refuses_a_row_is_named(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    picky = ("Picky", {"every": 1})
    async with opened(wire("a > x, a > y", x=picky, y=picky), kinds) as session:
        await session.send(chunk(0))
        await session.close()
        events = await receive_all(session)
    assert {error.node_id for error in errors(events)} == {"x", "y"}
    assert len(errors(events)) == 2
    assert final(events).rejected == 1


# ---- FLUSH and CLOSE -------------------------------------------------------------------------


async def test_flush_gives_the_tails_in_one_marked_result_and_nodes_are_fresh_after(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    manifest = wire("a > lag > tally, lag > end", lag=("Lag", {"items": 2}), tally="Tally")
    async with opened(manifest, kinds) as session:
        for sequence in range(4):
            await session.send(note(sequence))
        await session.flush()
        for sequence in range(4, 7):
            await session.send(note(sequence))
        await session.close()
        events = await receive_all(session)
    got = results(events)
    assert [(result.sequence, result.flush) for result in got] == [
        *((n, False) for n in range(4)),
        (3, True),
        *((n, False) for n in range(4, 7)),
        (6, True),
    ]
    assert [numbers(result, "end") for result in got] == [[], [], [0], [1], [2, 3], [], [], [4], [5, 6]]
    counted = [[item.value for item in result.items.get("tally", ())] for result in got]  # type: ignore[union-attr]
    assert counted[4] == [{"count": 3}, {"count": 4}, {"total": 4}]
    assert counted[8] == [{"count": 2}, {"count": 3}, {"total": 3}], "it kept counting from before the flush"


async def test_the_result_of_a_flush_always_comes(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b"), kinds) as session:
        await session.flush()
        await session.flush()
        await session.close()
        events = await receive_all(session)
    assert [(result.sequence, result.flush) for result in results(events)] == [(None, True)] * 3
    assert [node.finishes for node in kinds.built] == [3, 3]


async def test_numbers_positions_and_the_account_go_on_after_a_flush(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(5))
        await session.flush()
        await session.send(chunk(5))
        await session.send(chunk(6))
        await session.close()
        events = await receive_all(session)
    assert [numbers(result, "a") for result in results(events)] == [[0], [], [10], []]
    assert [type(error) for error in errors(events)] == [DuplicateChunk]
    assert final(events).delivered == 2


async def test_flush_settles_every_hole(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds, reorder_timeout_ms=60_000, within=5) as session:
        for sequence in (0, 2, 5):
            await session.send(chunk(sequence))
        await session.flush()
        got = [await session.receive() for _ in range(4)]
    assert [(e.sequence, e.flush) for e in got if isinstance(e, Result)] == [
        (0, False),
        (2, False),
        (5, False),
        (5, True),
    ]


async def test_a_hole_is_settled_when_its_time_is_over(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0))
        await session.send(chunk(2))
        await session.receive()
        before = trio.current_time()
        event = await session.receive()
        assert isinstance(event, Result)
        assert event.sequence == 2
        assert 0.2 <= trio.current_time() - before <= 0.3
        assert session.metrics().missing == 1


async def test_close_ends_with_a_flush_and_the_final_metrics(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > lag", lag="Lag"), kinds) as session:
        await session.send(chunk(0))
        await session.close()
        await session.close()
        first, flush, last = await receive_all(session)
        assert await session.receive() is None
    assert isinstance(flush, Result)
    assert flush.flush
    assert numbers(flush, "lag") == [0]
    assert final([first, flush, last]).delivered == 1


async def test_chunks_and_flushes_after_close_are_refused(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0))
        await session.close()
        await session.send(chunk(1))
        await session.send(chunk(9))
        await session.flush()
        await trio.sleep(1)  # a hole below 9 would be settled by now
        events = await receive_all(session)
        with pytest.raises(SessionClosed):
            await session.send(chunk(2))
    assert [(type(error), error.sequence) for error in errors(events)] == [
        (SessionClosed, 1),
        (SessionClosed, 9),
        (SessionClosed, None),
    ]
    account = final(events)
    assert (account.refused, account.delivered, account.missing) == (2, 1, 0)


async def test_after_the_end_nothing_can_be_sent(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.close()
        await receive_all(session)
        for refused in (session.send(chunk(0)), session.flush(), session.close()):
            with pytest.raises(SessionClosed):
                await refused


# ---- iterating -------------------------------------------------------------------------------


async def test_iterating_ends_with_the_session(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0))
        await session.close()
        events = [event async for event in session]
    assert len(events) == 3


async def test_iterating_raises_the_failure_after_all_events(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    events: list[Event] = []
    async with opened(wire("a", a=("Bomb", {"at": 1})), kinds) as session:
        await session.send(chunk(0))
        await session.send(chunk(1))
        with pytest.raises(EngineError, match="boom"):
            await _gather(session, events)
    assert final(events).delivered == 1


async def _gather(session: Session, events: list[Event]) -> None:
    async for event in session:
        events.append(event)


async def test_leaving_a_loop_over_a_session_early_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """No half-run generator is left, whose collection would warn (an error here), and the loop can be resumed."""
    kinds = Kinds()
    async with opened(wire("a"), kinds) as session:
        await session.send(chunk(0))
        await session.send(chunk(1))
        async for _ in session:
            break
        gc.collect()
        await trio.lowlevel.checkpoint()
        async for event in session:
            assert isinstance(event, Result)
            assert event.sequence == 1
            break
        gc.collect()
        await trio.lowlevel.checkpoint()


# ---- sources ---------------------------------------------------------------------------------


async def test_an_empty_node_id_will_do_where_there_is_one_source(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > z, b > z"), kinds) as session:
        assert session.source_ids == ("a", "b")
        await session.send(chunk(0))
        event = await session.receive()
        assert isinstance(event, UnknownSource)
        assert "'a', 'b'" in event.message
        await session.send(chunk(0, "z"))
        event = await session.receive()
        assert isinstance(event, UnknownSource)


async def test_data_beside_audio_joins_the_next_row_without_delay(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("mic > z, text > z", mic="Hear", text="Read", z="Meet"), kinds) as session:
        await session.send(note(0, "text"))
        await session.send(note(1, "text"))
        await session.send(chunk(0, "mic"))
        await session.send(chunk(1, "mic"))
        got = [await session.receive(), await session.receive()]
        assert trio.current_time() < 0.05
    values = [number_of(event.items["z"][0]) or event.items["z"][0].value for event in got]  # type: ignore[union-attr]
    assert values == [{"mic": [0], "text": [0, 1]}, {"mic": [10], "text": []}]


async def test_a_join_that_is_a_source_finds_its_chunk_under_the_empty_id(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("z", z="Meet"), kinds) as session:
        await session.send(note(7))
        event = await session.receive()
        assert isinstance(event, Result)
        assert list(event.items["z"]) == [Data({"": [7]})]


async def test_rows_inside_are_done_while_nobody_receives(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with opened(wire("a > b > c"), kinds) as session:
        await _fill(session)
        await wait_all_tasks_blocked()
        assert [node.seen for node in kinds.built] == [32, 32, 32]


async def _fill(session: Session) -> None:
    for sequence in range(session.ready.input_capacity):
        assert session.offer(chunk(sequence))


async def test_a_source_keeps_the_very_frames_it_was_given(autojump_clock: MockClock) -> None:
    """Zero-copy: the output of a pass-through shares the memory of the chunk."""
    kinds = Kinds()
    given = tone(5)
    async with opened(wire("a > b"), kinds) as session:
        await session.send(Chunk(given, 0))
        event = await session.receive()
        assert isinstance(event, Result)
        audio = event.outputs["b"].audio
        assert isinstance(audio, Audio)
        assert audio.frames is given.frames
