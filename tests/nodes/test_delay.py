"""Delay moves the stream, with as many frames out as in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.conformance import blocks_of, check_node, run, signal
from nodes.contract import Audio
from nodes.delay import Delay


@pytest.mark.parametrize("sample_format", ["f32", "i16", "i32"])
def test_conforms(sample_format: str) -> None:
    check_node(
        lambda **params: Delay(**{"delay_ms": 50, **params}),
        formats=(sample_format,),
        length=None,
        faults=[{"delay_ms": -1}, {"delay_ms": 60_001}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=4))
def test_each_frame_comes_that_much_later_and_silence_before(delay: int, plan: list[tuple[int, int]]) -> None:
    at, stretches = 3, []
    for gap, n_frames in plan:
        stretches.append((at + gap, signal(n_frames, seed=at)))
        at += gap + n_frames
    outcome = run(Delay(delay_ms=delay), blocks_of(stretches, [7, 0, 1], 1_000))
    out: dict[int, Any] = {start + i: v for start, frames in outcome.runs for i, v in enumerate(frames[:, 0])}
    expected = dict.fromkeys(range(stretches[0][0], stretches[0][0] + delay), 0.0)
    expected |= {start + i + delay: v for start, frames in stretches for i, v in enumerate(frames[:, 0])}
    assert out == expected


def test_one_frame_out_for_each_in_and_the_line_is_all_that_is_held() -> None:
    node = Delay(delay_ms=30)
    for index in range(50):
        block = Audio(np.full((160, 1), index, np.int16), 16_000, index * 160)
        assert sum(len(out.frames) for out in node.process(block)) == 160
        assert node.memory_bytes == 480 * 2
