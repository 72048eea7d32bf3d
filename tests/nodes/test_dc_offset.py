"""DCOffset against offsets that were added, and its definition of an offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nodes.conformance import check_node, cut, run
from nodes.contract import Audio, from_float32
from nodes.dc_offset import DCOffset

RATE = 8_000


def offset(*stretches: tuple[Sequence[float], float], rate: int = RATE) -> Any:
    """Return a 50 Hz tone in every channel, on stretches of (offset of each channel, seconds)."""
    levels = np.concatenate([np.tile(levels, (round(seconds * rate), 1)) for levels, seconds in stretches])
    tone = 0.5 * np.sin(2 * np.pi * 50 * np.arange(len(levels)) / rate)
    return (levels + tone[:, None]).astype(np.float32)


def found(frames: Any, rate: int = RATE, sizes: Sequence[int] = (), **params: Any) -> Any:
    node = DCOffset(**params)
    return node.join(run(node, cut(frames, list(sizes), rate)).data).value


def test_conforms() -> None:
    check_node(
        lambda **params: DCOffset(**{"hold_ms": 0.0, "threshold": 0.02, "window_ms": 60.0, **params}),
        rates=(11_025,),
        length=None,
        findings=lambda value: (
            value
            and [np.round(value["dc_offset"], 9).tolist(), *(value[name] for name in ("segments", "has_dc_offset"))]
        ),
        faults=[{"threshold": 0}, {"window_ms": 19}, {"hold_ms": -1}, {"release_ms": 60_001}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize("sample_format", ["f32", "i16", "i32"])
@pytest.mark.parametrize("rate", [8_000, 768_000])
def test_the_offset_of_each_channel_is_what_was_added(sample_format: Any, rate: int) -> None:
    frames = from_float32(offset(([0.2, -0.3, 0.0], 0.2), rate=rate), sample_format)
    value = found(frames, rate)
    assert value["dc_offset"] == pytest.approx([0.2, -0.3, 0.0], abs=1e-5)
    assert value["dc_offset_db"] == pytest.approx(20 * np.log10(0.3), abs=1e-3)


@pytest.mark.parametrize("sizes", [(), [160] * 1_000])
def test_an_offset_is_told_from_when_it_is_there(sizes: Sequence[int]) -> None:
    frames = offset(([0.0, 0.0], 1), ([0.0, -0.2], 2), ([0.0, 0.0], 2))
    value = found(frames, sizes=sizes, window_ms=20)
    assert value["segments"] == [[1_000, 3_000]]
    assert value["has_dc_offset"] is True
    assert found(frames[:RATE])["has_dc_offset"] is False


def test_what_does_not_last_is_no_offset() -> None:
    assert found(offset(([0.0], 1), ([0.2], 0.4), ([0.0], 1)), window_ms=20)["segments"] == []
    twice = offset(([0.2], 1), ([0.0], 0.4), ([0.2], 1))
    assert found(twice, window_ms=20)["segments"] == [[0, 2_400]]


def test_it_does_not_flap_between_the_thresholds() -> None:
    wavering = offset(*[([0.012], 0.3), ([0.008], 0.3)] * 3)
    assert found(wavering, window_ms=20, hold_ms=0, release_ms=0)["segments"] == [[0, 1_800]]


def test_the_window_is_a_mean_of_what_was_heard_last() -> None:
    assert found(offset(([0.3], 2), ([0.1], 0.5)))["dc_offset"] == pytest.approx([0.2], abs=1e-6)
    assert found(offset(([0.3], 2), ([0.1], 1.2)))["dc_offset"] == pytest.approx([0.1], abs=1e-6)


def test_a_gap_ends_an_offset_and_empties_the_window() -> None:
    node, frames = DCOffset(), offset(([0.3], 1))
    items = [*node.process(Audio(frames, RATE)), *node.process(Audio(frames - np.float32(0.3), RATE, 3 * RATE))]
    assert items[-1].value["dc_offset"] == pytest.approx([0.0], abs=1e-6)
    assert items[-1].value["segments"] == [[0, 1_000]]
    assert not node.join(list(node.finish())).value["has_dc_offset"]


def test_hours_take_no_more_memory_than_seconds() -> None:
    node, frames = DCOffset(), offset(([0.3], 10), ([0.0], 10))
    held = set()
    for number in range(18):
        list(node.process(Audio(frames, RATE, number * len(frames))))
        held.add(node.memory_bytes)
    assert max(held) == min(held) < 1_000
