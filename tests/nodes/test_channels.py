"""ChannelSplit and ChannelMerge are each other's inverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from engine.messages import Chunk, Result
from engine.session import open_session
from nodes.channel_merge import ChannelMerge
from nodes.channel_split import ChannelSplit
from nodes.contract import Audio, InvalidInput, To
from nodes.registry import BUILTIN
from tests.engine.harness import wire
from tests.kits import check_node, cut, late_by_one_row, signal

Row = Mapping[str, Sequence[Any]]


def splitter(*names: str, **params: Any) -> ChannelSplit:
    node = ChannelSplit(**params)
    node.connect_outputs(names)
    return node


def merger(*names: str, **params: Any) -> ChannelMerge:
    node = ChannelMerge(**params)
    node.connect(names)
    return node


def test_split_conforms() -> None:
    check_node(
        lambda **params: splitter("right", **{"channels": {"right": [1]}, **params}),
        channels=(2, 3),
        faults=[{"channels": {"right": []}}, {"channels": {"right": [128]}}, {"channels": {"left": [0]}}],
        refuse=lambda block: Audio(block.frames[:, :1], block.sample_rate, block.start),
    )


def test_merge_conforms() -> None:
    check_node(
        lambda **params: merger("a", "b", **params),
        feed=late_by_one_row,
        channels=(1, 2),
        tolerance=1e-7,
        waits=True,
        faults=[{"max_skew_ms": 0}],
        refuse=lambda block: {"a": [block], "b": [Audio(block.frames, block.sample_rate + 1, 0)]},
    )


def test_channels_go_to_the_connections_in_order_or_as_told() -> None:
    block = Audio(signal(9, 3, "i32"), 8_000, 5)
    left, right = splitter("l", "r").process(block)
    assert [(each.target, each.item.frames[:, 0].tolist()) for each in (left, right)] == [  # type: ignore[union-attr]
        ("l", block.frames[:, 0].tolist()),
        ("r", block.frames[:, 1].tolist()),
    ]
    (swapped,) = splitter("x", channels={"x": [2, 0]}).process(block)
    assert isinstance(swapped, To)
    assert np.array_equal(swapped.item.frames, block.frames[:, [2, 0]])  # type: ignore[union-attr]
    assert swapped.item.start == 5  # type: ignore[union-attr]


def test_who_gets_nothing_or_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="connect this node to others"):
        splitter()
    with pytest.raises(ValueError, match="for each node downstream, 'a', 'b'; got a"):
        splitter("a", "b", channels={"a": [0]})
    with pytest.raises(InvalidInput, match="2 channels are needed, the block has 1"):
        splitter("a", "b").process(Audio(signal(9), 8_000))


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(InvalidInput, match="2 times 65 channels"):
        merger("a", "b").process({"a": [Audio(signal(2, 65), 8_000)], "b": []})
    with pytest.raises(ValueError, match="the limit is 128"):
        merger(*map(str, range(129)))


async def test_split_and_merged_again_it_is_the_same(autojump_clock: Any) -> None:
    manifest = wire(
        "split > l > merge, split > r > merge",
        split="ChannelSplit",
        merge="ChannelMerge",
        l="PassThrough",
        r=("Delay", {"delay_ms": 0}),
    )
    frames = signal(999, 2, "i16")
    parts = []
    async with open_session(manifest, registry=BUILTIN) as session:
        for sequence, block in enumerate(cut(frames, [160] * 5, 16_000)):
            await session.send(Chunk(block, sequence))
        await session.close()
        async for event in session:
            if isinstance(event, Result) and (output := event.outputs.get("merge")) and output.audio:
                parts.append(output.audio.frames)
    assert np.array_equal(np.concatenate(parts), frames)
