"""Compressor against its static curve and its time constants in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.compressor import Compressor
from nodes.contract import Audio
from tests.kits import check_node, cut, run, signal

RATE = 16_000
HOP = 16


def compressed(frames: Any, sizes: list[int] | None = None, **params: Any) -> Any:
    ((start, given_frames),) = run(Compressor(**params), cut(frames, sizes or [], RATE, start=77)).runs
    assert start == 77
    assert len(given_frames) == len(frames)
    return given_frames


def steady(level_db: float, n_frames: int) -> Any:
    """Return a square wave, in which each hop has the same peak."""
    signs = np.where(np.arange(n_frames) % 8 < 4, 1.0, -1.0)
    return (10 ** (level_db / 20) * signs).astype(np.float32)[:, None]


def level_db(frames: Any) -> Any:
    return 20 * np.log10(np.abs(frames.astype(np.float64)))


def test_conforms() -> None:
    check_node(
        Compressor,
        rates=(8_000, 44_100),
        channels=(1, 3),
        faults=[{"ratio": 0.5}, {"knee_db": -1}, {"threshold_db": 1}, {"attack_ms": -1}],
        refuse=lambda block: Audio(np.full((3, block.channels), np.inf, np.float32), block.sample_rate, block.start),
    )


def static_curve(level: float, threshold: float, ratio: float, knee: float) -> float:
    """Return the output level by equation 4 of Giannoulis, Massberg and Reiss."""
    if 2 * (level - threshold) < -knee:
        return level
    if 2 * abs(level - threshold) <= knee and knee:
        return level + (1 / ratio - 1) * (level - threshold + knee / 2) ** 2 / (2 * knee)
    return threshold + (level - threshold) / ratio


@settings(max_examples=60)
@given(st.floats(-60, 0), st.floats(-50, 0), st.floats(1, 100), st.floats(0, 30), st.floats(-20, 20))
def test_steady_levels_follow_the_static_curve(
    level: float, threshold: float, ratio: float, knee: float, makeup: float
) -> None:
    params = {"threshold_db": threshold, "ratio": ratio, "knee_db": knee, "makeup_db": makeup}
    settled = compressed(steady(level, 1_600), attack_ms=1, release_ms=1, **params)[-HOP:]
    assert level_db(settled) == pytest.approx(static_curve(level, threshold, ratio, knee) + makeup, abs=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "attack_ms", "release_ms"), [(-40, 0, 10, 300), (0, -40, 30, 40), (-40, 0, 0, 300)]
)
def test_gain_changes_with_its_time_constants(before: float, after: float, attack_ms: float, release_ms: float) -> None:
    frames = np.concatenate((steady(before, RATE), steady(after, RATE // 2)))
    given_frames = compressed(
        frames, [333] * 99, threshold_db=-20, ratio=4, knee_db=0, attack_ms=attack_ms, release_ms=release_ms
    )
    change_db = level_db(given_frames[RATE + HOP - 1 :: HOP]) - after  # where hops end
    start, goal = (0, -15) if after == 0 else (-15, 0)
    time_constant_ms = attack_ms if after == 0 else release_ms
    elapsed_ms = np.arange(1, len(change_db) + 1)
    left = np.exp(-elapsed_ms / time_constant_ms) if time_constant_ms else 0.0 * elapsed_ms
    assert np.allclose(change_db[:, 0], goal + (start - goal) * left, atol=1e-3)


def test_below_the_threshold_nothing_changes() -> None:
    frames = signal(4_001, 2) * np.float32(0.05)
    assert np.array_equal(compressed(frames, [333] * 20, threshold_db=-20, knee_db=6), frames)


def test_all_channels_get_the_same_gain() -> None:
    frames = np.concatenate((steady(-6, RATE), steady(-46, RATE)), axis=1)
    changes = level_db(compressed(frames)[-HOP:]) - level_db(frames[-HOP:])
    assert changes[:, 0] == pytest.approx(changes[:, 1])
    assert changes.max() < -5


def test_silence_stays_silence() -> None:
    assert not compressed(np.zeros((1_000, 1), np.float32), makeup_db=60).any()


def test_a_long_stream_is_held_in_bounded_memory() -> None:
    node, most = Compressor(), 0
    frames = signal(59_999, rate=1_000)
    for minute in range(10):
        list(node.process(Audio(frames, 1_000, minute * 59_999)))
        most = max(most, node.memory_bytes)
    assert most <= 4 * node.delay * 1_000
