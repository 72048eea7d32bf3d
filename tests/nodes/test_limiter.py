"""Limiter is never above its ceiling, changes nothing that needs no limiting, and has a smooth gain in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.contract import Audio
from nodes.limiter import Limiter
from tests.kits import check_node, cut, run, signal

RATE = 16_000
HOP = 16


def limited(frames: Any, sizes: list[int] | None = None, rate: int = RATE, **params: Any) -> Any:
    ((start, given_frames),) = run(Limiter(**params), cut(frames, sizes or [], rate, start=77)).runs
    assert start == 77
    assert len(given_frames) == len(frames)
    return given_frames


def test_conforms() -> None:
    check_node(
        Limiter,
        rates=(8_000, 44_100),
        channels=(1, 3),
        faults=[{"ceiling_db": 1}, {"lookahead_ms": 0.5}, {"release_ms": 0}],
        refuse=lambda block: Audio(np.full((3, block.channels), np.nan, np.float32), block.sample_rate, block.start),
    )


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.floats(-120, 90)), min_size=1, max_size=12),
    st.floats(-60, 0),
    st.floats(1, 50),
    st.floats(1, 500),
    st.sampled_from([700, 8_000, 44_100]),
    st.lists(st.integers(1, 300), max_size=8),
)
def test_no_sample_is_ever_above_the_ceiling(
    pieces: Any, ceiling_db: float, lookahead_ms: float, release_ms: float, rate: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(1)
    parts = [rng.uniform(-1, 1, (length, 2)) * 10 ** (level_db / 20) for length, level_db in pieces]
    frames = np.concatenate(parts).astype(np.float32)
    given_frames = limited(frames, sizes, rate, ceiling_db=ceiling_db, lookahead_ms=lookahead_ms, release_ms=release_ms)
    assert np.abs(given_frames.astype(np.float64)).max() <= 10 ** (ceiling_db / 20)


@pytest.mark.parametrize("largest", [32_767, -32_768])
def test_integers_hold_the_ceiling_to_the_nearest_step(largest: int) -> None:
    frames = np.full((RATE, 1), largest, np.int16)
    assert np.abs(limited(frames, ceiling_db=-6).astype(int)).max() == round(32_768 * 10 ** (-6 / 20))


@pytest.mark.parametrize("sample_format", ["f32", "i16"])
def test_what_is_below_the_ceiling_passes_bit_for_bit(sample_format: str) -> None:
    frames = signal(4_001, 2, sample_format)
    quiet = frames // 2 if sample_format == "i16" else frames * np.float32(0.85)
    assert np.array_equal(limited(quiet, [333] * 20), quiet)


def test_a_steady_overload_comes_out_at_the_ceiling() -> None:
    frames = np.full((RATE, 1), 4.0, np.float32)
    assert np.allclose(limited(frames, ceiling_db=-3), 10 ** (-3 / 20), rtol=1e-6)


def test_gain_falls_before_a_peak_and_recovers_with_the_time_constant() -> None:
    frames = np.full((RATE, 1), 0.1, np.float32)
    peak, release_ms = RATE // 2, 50
    frames[peak] = 4.0
    gain = limited(frames, ceiling_db=0, lookahead_ms=5, release_ms=release_ms)[:, 0] / frames[:, 0]
    assert gain[peak] == pytest.approx(0.25)
    assert (gain[: peak - 6 * HOP] == 1).all()  # 5 ms, and the part of the peak's hop before it
    attack = gain[peak - 6 * HOP : peak + 1]
    assert (np.diff(attack) <= 0).all()
    assert np.abs(np.diff(gain)).max() < 0.75 / (4 * HOP)  # no click
    recovering = gain[peak + 10 * HOP :: HOP]
    ratio = (1 - recovering[1:100]) / (1 - recovering[:99])
    assert np.allclose(ratio, np.exp(-1 / release_ms), atol=1e-3)


def test_all_channels_get_the_same_gain() -> None:
    frames = signal(4_001, 2)
    frames[:, 1] *= np.float32(1e-3)
    frames[:, 0] *= np.float32(4.0)
    given_frames = limited(frames)
    loud = np.abs(frames).min(axis=1) > 1e-5
    gains = given_frames[loud] / frames[loud]
    assert gains.min() < 0.3
    assert np.allclose(gains[:, 0], gains[:, 1], rtol=1e-4)


def test_a_long_stream_is_held_in_bounded_memory() -> None:
    node, most = Limiter(), 0
    frames = signal(59_999, rate=1_000)
    for minute in range(10):
        list(node.process(Audio(frames, 1_000, minute * 59_999)))
        most = max(most, node.memory_bytes)
    assert most <= 4 * 2 * node.delay * 1_000
