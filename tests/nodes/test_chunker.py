"""Chunker, and Framing below it, yield the windows of the whole stream, however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.chunker import Chunker
from nodes.conformance import check_node, cut, signal
from nodes.contract import Audio

RATE = 1_000
"""Sample rate at which a frame is a millisecond."""


def chunked(blocks: list[Audio], **params: Any) -> list[Audio]:
    node = Chunker(**params)
    return [out for block in blocks for out in node.process(block)] + list(node.finish())


@pytest.mark.parametrize("sample_format", ["f32", "i32"])
def test_conforms(sample_format: str) -> None:
    check_node(
        lambda **params: Chunker(**{"block_ms": 33.3, **params}),
        formats=(sample_format,),
        faults=[{"block_ms": 0}, {"overlap_ms": 33.3}, {"overlap_ms": -1}, {"tail": "none"}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@given(
    st.integers(0, 60),
    st.integers(1, 20),
    st.integers(0, 19),
    st.sampled_from(["short", "pad", "drop"]),
    st.lists(st.integers(0, 25), max_size=9),
)
def test_gives_the_windows_of_the_whole(n_frames: int, size: int, overlap: int, tail: str, sizes: list[int]) -> None:
    overlap %= size
    frames, hop = signal(n_frames), size - overlap
    out = chunked(list(cut(frames, sizes, RATE, 7)), block_ms=size, overlap_ms=overlap, tail=tail)
    starts = list(range(0, n_frames - size + 1, hop))
    expected = [frames[at : at + size] for at in starts]
    covered, after = (starts[-1] + size, starts[-1] + hop) if starts else (0, 0)
    if covered < n_frames and tail != "drop":
        last = frames[after:]
        starts.append(after)
        expected.append(np.pad(last, ((0, size - len(last)), (0, 0))) if tail == "pad" else last)
    assert [block.start for block in out] == [7 + at for at in starts]
    assert all(np.array_equal(block.frames, want) for block, want in zip(out, expected, strict=True))


def test_a_gap_ends_a_block() -> None:
    frames = signal(100)
    out = chunked([Audio(frames[:15], RATE), Audio(frames[50:75], RATE, 50)], block_ms=10)
    assert [(block.start, block.stop) for block in out] == [(0, 10), (10, 15), (50, 60), (60, 70), (70, 75)]


def test_memory_stays_below_a_block() -> None:
    node = Chunker(block_ms=10, overlap_ms=5)
    for block in cut(signal(5_000), [7] * 1_000, RATE):
        list(node.process(block))
        assert node.memory_bytes < 10 * 4
