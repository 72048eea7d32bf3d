"""One-shot calls: whole inputs in, joined outputs out, as if the pipeline had been called once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import (
    ChunkRefused,
    EngineError,
    ManifestInvalid,
    MemoryLimitExceeded,
    NodeFailed,
    NodeRefused,
    SamplesLimitExceeded,
    TimeLimitExceeded,
    UnknownSource,
)
from engine.limits import ResourceLimits
from engine.manifest import Manifest
from engine.messages import NodeStatus, Result, Status
from engine.runtime.engine import Engine
from engine.session.oneshot import BLOCK_S, execute
from nodes.contract import Audio, Data, Item, Join, Kind
from nodes.mix import Mix
from tests.engine.harness import RATE, Kinds, Probe, tasks_now, tone, wire
from tests.kits import signal


class Lengths(Probe):
    """Records the lengths and positions of the blocks."""

    def treat(self, item: Item) -> Iterable[Item]:
        assert isinstance(item, Audio)
        return (item, Data({"block": [item.start, len(item.frames)]}))


class Reverse(Probe):
    """Emits everything at the end, in one block, as a node does that needs a whole input."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.held: list[Audio] = []

    def treat(self, item: Item) -> Iterable[Item]:
        assert isinstance(item, Audio)
        self.held.append(item)
        return ()

    def finish(self) -> Iterable[Item]:
        held, self.held = self.held, []
        if not held:
            return ()
        return (Audio(np.concatenate([each.frames for each in held])[::-1], held[0].sample_rate),)


@asynccontextmanager
async def running(kinds: Kinds, **more: Any) -> AsyncIterator[Engine]:
    """Make an engine whose sweep runs; check at the end that every node is closed and no task is left."""
    engine = Engine(kinds, **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        await wait_all_tasks_blocked()
        before = tasks_now()
        yield engine
        assert tasks_now() == before
        nursery.cancel_scope.cancel()
    kinds.assert_closed_once()


async def call(
    manifest: Manifest,
    audio: Mapping[str, Audio] | None = None,
    data: Mapping[str, Data] | None = None,
    *more: type[Any],
    limits: ResourceLimits | None = None,
) -> Result:
    kinds = Kinds(Lengths, Reverse, *more)
    async with running(kinds) as engine:
        result = await execute(manifest, audio or {}, data or {}, engine=engine, limits=limits)
    return result


async def failing(*args: Any, **named: Any) -> EngineError:
    """Return the error of a call, which must come out as itself, not in an exception group."""
    kinds = Kinds(Lengths, Reverse)
    manifest, audio, data = (*args, {}, {})[:3]
    async with running(kinds) as engine:
        with pytest.raises(EngineError) as caught:
            await execute(manifest, audio, data, engine=engine, **named)
    return caught.value


@pytest.mark.parametrize("n_frames", [0, 1, RATE - 1, RATE, RATE + 1, 5 * RATE + 77])
@pytest.mark.parametrize("sample_format", ["f32", "i16", "i32"])
async def test_gives_the_whole_input_back_bit_for_bit(
    n_frames: int, sample_format: str, autojump_clock: MockClock
) -> None:
    frames = signal(n_frames, 2, sample_format)
    result = await call(wire("a > lag > b", lag="Lag"), {"": Audio(frames, RATE)})
    audio = result.outputs["b"].audio
    assert audio is not None
    assert audio.frames.dtype == frames.dtype
    assert np.array_equal(audio.frames, frames)
    assert (audio.start, audio.sample_rate) == (0, RATE)


async def test_what_needs_the_whole_input_gets_it(autojump_clock: MockClock) -> None:
    frames = signal(3 * RATE + 5)
    result = await call(wire("a > b", b="Reverse"), {"a": Audio(frames, RATE)})
    audio = result.outputs["b"].audio
    assert audio is not None
    assert np.array_equal(audio.frames, frames[::-1])


async def test_long_input_is_cut_into_blocks_of_a_second(autojump_clock: MockClock) -> None:
    result = await call(wire("a", a="Lengths"), {"a": tone(2 * RATE + 10)})
    data = result.outputs["a"].data
    assert data is not None
    assert [item["block"] for item in data.value["items"]] == [[0, RATE], [RATE, RATE], [2 * RATE, 10]]
    assert BLOCK_S == 1


async def test_the_event_loop_turns_while_a_long_input_is_worked_on(autojump_clock: MockClock) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        async with running_quietly() as engine:
            await execute(wire("a > b"), {"a": tone(60 * RATE)}, {}, engine=engine)
        assert turns - before >= 60 // 8
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running_quietly() -> AsyncIterator[Engine]:
    engine = Engine(Kinds())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        yield engine
        nursery.cancel_scope.cancel()


# ---- several sources -------------------------------------------------------------------------


async def test_sources_of_unlike_length_cost_no_waiting(autojump_clock: MockClock) -> None:
    result = await call(wire("a > x, b > y"), {"a": tone(5 * RATE), "b": tone(RATE // 2)})
    assert trio.current_time() == 0
    lengths = {name: len(output.audio.frames) for name, output in result.outputs.items() if output.audio}
    assert lengths == {"x": 5 * RATE, "y": RATE // 2}


async def test_a_source_that_is_not_used_stays_empty_and_costs_no_waiting(autojump_clock: MockClock) -> None:
    result = await call(wire("a > x, b > y, b > z"), {"a": tone(3 * RATE)})
    assert trio.current_time() == 0
    assert set(result.outputs) == {"x"}
    assert result.status is Status.PARTIAL_SUCCESS
    assert {node.node_id: node.status for node in result.nodes} == {
        "a": NodeStatus.SUCCESS,
        "x": NodeStatus.SUCCESS,
        "b": NodeStatus.SKIPPED,
        "y": NodeStatus.SKIPPED,
        "z": NodeStatus.SKIPPED,
    }


async def test_data_beside_audio_enters_with_the_first_row(autojump_clock: MockClock) -> None:
    manifest = wire("mic > z, text > z", mic="Hear", text="Read", z="Meet")
    result = await call(manifest, {"mic": tone(2 * RATE)}, {"text": Data({"n": 7})})
    data = result.outputs["z"].data
    assert data is not None
    assert data.value["items"] == [{"mic": [0], "text": [7]}, {"mic": [RATE], "text": []}]
    assert trio.current_time() == 0


async def test_data_for_a_source_that_could_take_audio_costs_no_waiting_either(autojump_clock: MockClock) -> None:
    manifest = wire("mic > z, any > z", mic="Hear", z="Meet")
    result = await call(manifest, {"mic": tone(4 * RATE)}, {"any": Data({"n": 7})})
    data = result.outputs["z"].data
    assert data is not None
    assert [item["any"] for item in data.value["items"]] == [[7], [], [], []]
    assert trio.current_time() == 0


async def test_as_many_data_inputs_as_there_are_sources(autojump_clock: MockClock) -> None:
    """It has more blocks than a stream has credits by default."""
    texts = [f"t{i}" for i in range(60)]
    manifest = wire(
        "mic > z, " + ", ".join(f"{text} > z" for text in texts), mic="Hear", z="Meet", **dict.fromkeys(texts, "Read")
    )
    result = await call(manifest, {"mic": tone(10)}, {text: Data({"n": i}) for i, text in enumerate(texts)})
    data = result.outputs["z"].data
    assert data is not None
    assert data.value["t59"] == [59]


async def test_data_alone(autojump_clock: MockClock) -> None:
    result = await call(wire("a > b", b="Tally"), data={"a": Data({"n": 1})})
    data = result.outputs["b"].data
    assert data is not None
    assert data.value == {"items": [{"count": 1}, {"total": 1}]}
    assert trio.current_time() == 0


async def test_nothing_at_all(autojump_clock: MockClock) -> None:
    result = await call(wire("a > b"))
    assert result.outputs == {}
    assert result.status is Status.PARTIAL_SUCCESS
    assert trio.current_time() == 0


async def test_tells_of_the_whole_call(autojump_clock: MockClock) -> None:
    result = await call(wire("a > b"), {"a": tone(3 * RATE)})
    assert (result.status, result.flush, result.sequence) == (Status.SUCCESS, True, None)
    assert {name: (each.chunks, each.samples) for name, each in result.figures.items()} == {
        "a": (3, 3 * RATE),
        "b": (3, 3 * RATE),
    }
    assert result.wall_ms > 0
    assert result.memory_bytes >= 3 * RATE * 4


async def test_inputs_of_any_lengths_are_mixed(autojump_clock: MockClock) -> None:
    """A node that waits for all its upstream nodes learns which of them have ended."""
    short, long = tone(RATE // 2, 0.25), tone(5 * RATE, 0.5)
    manifest = wire("a > lag > mix, b > mix, c > mix", mix="Mix", lag=("Lag", {"items": 1}))
    result = await call(manifest, {"a": short, "b": long}, None, Mix)
    audio = result.outputs["mix"].audio
    assert audio is not None
    assert audio.frames[:, 0].tolist() == [0.75] * (RATE // 2) + [0.5] * (5 * RATE - RATE // 2)


async def test_a_join_is_told_once_of_each_upstream_that_has_ended(autojump_clock: MockClock) -> None:
    @attrs.define(eq=False, slots=False)
    class Ear(Join):
        gives = Kind.DATA
        told: ClassVar[list[Any]] = []

        def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
            self.told.append(sorted(upstream for upstream, items in row.items() if items))
            return ()

        def ended(self, upstream: str) -> None:
            self.told.append(upstream)

    await call(wire("a > x > ear, a > y, b > y > ear", ear="Ear"), {"a": tone(RATE), "b": tone(3 * RATE)}, None, Ear)
    assert Ear.told == [["x", "y"], "x", ["y"], ["y"]], "y has another source that continues"


# ---- errors ----------------------------------------------------------------------------------


async def test_each_error_comes_out_as_itself(autojump_clock: MockClock) -> None:
    audio = {"a": tone(RATE)}
    bad = Audio(np.array([[np.nan]], np.float32), RATE)
    cases: list[tuple[type[EngineError], Any]] = [
        (ManifestInvalid, (wire("a", a="Nope"), audio)),
        (UnknownSource, (wire("a"), {"b": tone()})),
        (UnknownSource, (wire("a > z, b > z"), {"": tone()})),
        (ChunkRefused, (wire("a"), {"a": bad})),
        (ChunkRefused, (wire("a", a="Read"), audio)),
        (NodeRefused, (wire("a", a=("Picky", {"every": 1})), audio)),
        (NodeFailed, (wire("a > b", b=("Bomb", {"at": 0})), audio)),
        (NodeFailed, (wire("a", a=("Bomb", {"at": -1})), audio)),
    ]
    for expected, args in cases:
        assert type(await failing(*args)) is expected


async def test_a_failure_in_the_middle_of_a_long_input_names_node_and_block(autojump_clock: MockClock) -> None:
    error = await failing(wire("a > b", b=("Bomb", {"at": 40})), {"a": tone(60 * 100, rate=100)})
    assert (type(error), error.node_id, error.sequence) == (NodeFailed, "b", 40)


async def test_limits_cover_the_whole_call(autojump_clock: MockClock) -> None:
    """A limit applies to the whole input, although each of its blocks would fit."""
    audio = {"a": tone(3 * RATE)}
    error = await failing(wire("a"), audio, limits=ResourceLimits(max_audio_samples=3 * RATE - 1))
    assert isinstance(error, SamplesLimitExceeded)
    assert error.context == {"value": 3 * RATE, "limit": 3 * RATE - 1}
    error = await failing(wire("a"), audio, limits=ResourceLimits(max_memory_bytes=3 * RATE * 4 - 1))
    assert isinstance(error, MemoryLimitExceeded)
    error = await failing(wire("a"), audio, limits=ResourceLimits(max_memory_bytes=3 * RATE * 4 + RATE * 4 + 100))
    assert isinstance(error, MemoryLimitExceeded), "outputs are held too, until they are joined"


async def test_the_time_limit_covers_the_whole_call(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    engine = Engine(kinds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        began = trio.current_time()
        with pytest.raises(TimeLimitExceeded) as caught:
            await execute(
                wire("a > stuck", stuck="Stuck"),
                {"a": tone()},
                {},
                engine=engine,
                limits=ResourceLimits(max_timeout_ms=700),
            )
        assert trio.current_time() - began <= 0.75
        assert caught.value.context["limit_ms"] == 700
        kinds.gate.set()
        while engine.threads.straggling:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    kinds.assert_closed_once()


async def test_a_cancelled_call_leaves_nothing(autojump_clock: MockClock) -> None:
    kinds = Kinds()
    async with running(kinds) as engine:
        with trio.CancelScope() as scope:
            scope.cancel()
            await execute(wire("a > b"), {"a": tone(20 * RATE)}, {}, engine=engine)
        assert scope.cancelled_caught
