"""Gate and Switch send each sample where the data about its time say, however audio and data arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.messages import NodeStatus, Result, Status
from engine.session import open_session
from nodes.bases.alignment import SkewTooGreat
from nodes.conformance import check_node, signal
from nodes.contract import Audio, Data, InvalidInput, Join, To
from nodes.gate import Gate
from nodes.registry import BUILTIN
from nodes.switch import Switch
from tests.engine.harness import chunk, note, wire

Row = Mapping[str, Sequence[Any]]
RATE = 16_000
TILE = 700
"""Frames that one data item of these tests covers."""


def switch(**params: Any) -> Switch:
    node = Switch(**{"cases": {"even": "n == `0`", "odd": "n == `1`"}, "default": "else", **params})
    node.connect_outputs(("even", "odd", "else"))
    return node


def tiles(start: int, stop: int) -> list[Data]:
    """Return data about the tiles that end within a stretch, except every third tile."""
    ends = range(start // TILE + 1, stop // TILE + 1)
    return [Data({"n": k % 2}, (k - 1) * TILE / RATE, k * TILE / RATE) for k in ends if k % 3]


def with_tiles() -> Callable[[Audio | None], Row]:
    covered = 0

    def feed(block: Audio | None) -> Row:
        nonlocal covered
        start, covered = covered, 20 * TILE if block is None else block.stop
        return {"audio": [] if block is None else [block], "data": tiles(start, covered)}

    return feed


def where(at: int) -> str:
    """Return the node that the frame at a position must go to."""
    k = at // TILE + 1
    return "else" if k % 3 == 0 else ("even", "odd")[k % 2]


def gone(node: Join, rows: Sequence[Row]) -> dict[int, tuple[str, float]]:
    """Return position → target of its frame, and the frame's sample in the first channel."""
    items = [item for row in rows for item in node.process(row)]
    items += node.finish()
    frames: dict[int, tuple[str, float]] = {}
    for item in items:
        target, audio = (item.target, item.item) if isinstance(item, To) else ("", item)
        if isinstance(audio, Audio):
            assert len(audio.frames)
            for offset, value in enumerate(audio.frames[:, 0].tolist()):
                assert audio.start + offset not in frames
                frames[audio.start + offset] = target, value
    return frames


def test_gate_conforms() -> None:
    check_node(
        lambda **params: Gate(**{"when": "n == `0`", **params}),
        feed=with_tiles,
        length=None,
        findings=lambda value: value,
        waits=True,
        faults=[{"when": "n =="}, {"max_skew_ms": 0}, {"align": "luck"}],
        refuse=lambda block: {"audio": [block], "data": [Data({"n": 1})]},
    )


def test_switch_conforms() -> None:
    check_node(
        switch,
        feed=with_tiles,
        formats=("f32", "i16"),
        channels=(1,),
        waits=True,
        faults=[{"cases": {"even": "n =="}}, {"max_skew_ms": 0}, {"align": "luck"}],
        refuse=lambda block: {"audio": [block], "data": [Data({"n": 1})]},
    )


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 12 * TILE))
def test_every_frame_goes_where_its_moment_says(seed: int, n_frames: int) -> None:
    random, frames = Random(seed), signal(n_frames)
    audio: list[Audio] = []
    at = 0
    while at < n_frames:
        size = random.randint(1, 2 * TILE)
        audio.append(Audio(frames[at : at + size], RATE, at))
        at += size
    data, rows = tiles(0, n_frames + TILE), []
    while audio or data:
        taken, given = random.randint(0, 2), random.randint(0, 2)
        rows.append({"audio": audio[:taken], "data": data[:given]})
        audio, data = audio[taken:], data[given:]
    expected = {at: (where(at), frames[at, 0].item()) for at in range(n_frames)}
    assert gone(switch(max_skew_ms=60_000), rows) == expected
    odd = {at: ("", value) for at, (target, value) in expected.items() if target == "odd"}
    assert gone(Gate(when="n == `1`", max_skew_ms=60_000), rows) == odd


def test_data_go_where_they_say_themselves() -> None:
    said = [Data({"n": 0}), Data({"n": 1}), Data({"n": 2})]
    node = switch(align="arrival")
    assert list(node.process({"": said})) == [To("even", said[0]), To("odd", said[1]), To("else", said[2])]
    assert list(Gate(when="n > `0`", align="arrival").process({"": said})) == said[1:]
    assert list(Switch(cases={"odd": "n == `1`"}, align="arrival").process({"": said[2:]})) == []


def test_by_arrival_data_count_from_their_row_on() -> None:
    node, blocks = Gate(when="open", align="arrival"), [Audio(signal(9), RATE, 9 * k) for k in range(4)]
    decisions: list[list[Data]] = [[], [Data({"open": True})], [], [Data({"open": False})]]
    passed = [
        [item for item in node.process({"a": [block], "d": data}) if isinstance(item, Audio)]
        for block, data in zip(blocks, decisions, strict=True)
    ]
    assert passed == [[], [blocks[1]], [blocks[2]], []]
    node.finish()
    assert not list(node.process({"a": blocks[:1], "d": []})), "finish must close the gate again"


def test_audio_waits_for_data_and_is_counted() -> None:
    node = Gate(when="n == `0`")
    assert not list(node.process({"a": [Audio(signal(100), RATE)], "d": []}))
    assert node.memory_bytes == 400
    *data, out = node.process({"a": [], "d": [Data({"n": 0}, 0.0, 60 / RATE)]})
    assert (len(data), out.start, len(out.frames)) == (1, 0, 60)  # type: ignore[union-attr]
    assert node.memory_bytes == 160


def test_too_much_skew_fails_either_way() -> None:
    ahead = {"a": [Audio(signal(1_601), RATE)], "d": []}
    with pytest.raises(SkewTooGreat, match="'the data' is 100 ms behind"):
        list(Gate(when="n == `0`", max_skew_ms=100).process(ahead))
    with pytest.raises(SkewTooGreat, match="'the audio' is 200 ms behind"):
        list(Gate(when="n == `0`", max_skew_ms=100).process({"a": [], "d": [Data({"n": 0}, 0.0, 0.2)]}))
    over = Gate(when="n == `0`", max_skew_ms=100)
    over.ended("d")
    assert not list(over.process(ahead)), "audio must not wait for a node that has ended"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": [Data({"n": 0})]}, "use align 'arrival'"),
        ({"a": [Data({"n": 0}, 0, 1)], "b": [Data({"n": 0}, 0, 1)]}, "data from more than one node: 'a', 'b'"),
        ({"a": [Audio(signal(1), RATE)], "b": [Audio(signal(1), RATE)]}, "audio from more than one node"),
        ({"a": [Audio(signal(2), RATE, 5), Audio(signal(2), RATE, 6)]}, "the stream is at frame 7"),
        ({"a": [Audio(signal(2), RATE), Audio(signal(2), 8_000, 2)]}, "the stream is 16000 Hz"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(row: Row, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(Gate(when="n == `0`").process(row))


def test_cases_are_for_the_nodes_downstream_and_for_all_of_them() -> None:
    node = Switch(cases={"a": "x"}, default="b")
    node.connect_outputs(("b", "a"))
    with pytest.raises(ValueError, match="'a' is not downstream; downstream: 'b'"):
        node.connect_outputs(("b",))
    with pytest.raises(ValueError, match="'c' is downstream, but nothing can go there"):
        node.connect_outputs(("a", "b", "c"))


async def test_a_closed_branch_is_skipped_in_a_session(autojump_clock: Any) -> None:
    manifest = wire(
        "in > level > gate > below, in > gate",
        level="AudioLevel",
        gate=("Gate", {"when": "rms_dbfs > `-40`"}),
        below="Gain",
        **{"in": "PassThrough"},
    )
    async with open_session(manifest, registry=BUILTIN) as session:
        await session.send(chunk(0))
        silent = Audio(np.zeros((10, 1), np.float32), RATE)
        await session.send(type(chunk(1))(silent, 1))
        await session.close()
        loud, quiet = [event async for event in session if isinstance(event, Result)][:2]
    assert (loud.status, quiet.status) == (Status.SUCCESS, Status.PARTIAL_SUCCESS)
    assert {node.node_id: node.status for node in quiet.nodes}["below"] is NodeStatus.SKIPPED
    assert "below" in loud.outputs
    assert not quiet.outputs


async def test_a_client_routes_its_own_data(autojump_clock: Any) -> None:
    manifest = wire(
        "route > a, route > b",
        route=("Switch", {"cases": {"a": "n == `0`"}, "default": "b", "align": "arrival"}),
        a="PassThrough",
        b="PassThrough",
    )
    async with open_session(manifest, registry=BUILTIN) as session:
        for number in range(2):
            await session.send(note(number))
        await session.close()
        rows = [event async for event in session if isinstance(event, Result)]
    assert [sorted(row.outputs) for row in rows] == [["a"], ["b"], []]
