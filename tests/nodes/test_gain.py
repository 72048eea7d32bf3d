"""Gain multiplies, and clips integers only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.contract import Audio
from nodes.gain import Gain
from tests.kits import check_node, signal


def amplified(frames: np.ndarray, gain_db: float) -> np.ndarray:
    (out,) = Gain(gain_db=gain_db).process(Audio(frames, 16_000, 7))
    assert out.start == 7
    return out.frames


@pytest.mark.parametrize("gain_db", [0, -6.5, 12])
def test_conforms(gain_db: float) -> None:
    check_node(
        lambda **params: Gain(**{"gain_db": gain_db, **params}),
        channels=(1, 3),
        faults=[{"gain_db": 121}, {"gain_db": -121}, {"gain_db": float("nan")}],
    )


@given(st.floats(-120, 120))
def test_multiplies_by_the_closed_formula(gain_db: float) -> None:
    frames = signal(64)
    assert np.allclose(amplified(frames, gain_db), frames * 10 ** (gain_db / 20), rtol=1e-6)


def test_twenty_decibels_is_ten_times() -> None:
    frames = np.array([[0.5], [-0.25]], np.float32)
    assert amplified(frames, 20).tolist() == [[5.0], [-2.5]]


def test_integers_clip_instead_of_wrapping() -> None:
    frames = np.array([[20_000], [-20_000], [100]], np.int16)
    assert amplified(frames, 20).tolist() == [[32_767], [-32_768], [1_000]]
    wide = np.array([[2**30], [-(2**30)]], np.int32)
    assert amplified(wide, 20).tolist() == [[2**31 - 1], [-(2**31)]]


def test_zero_decibels_keeps_every_bit() -> None:
    frames = np.array([[123_456_789], [2**31 - 1]], np.int32)
    assert np.array_equal(amplified(frames, 0), frames)


def test_float_overflow_clips_to_the_largest_float() -> None:
    largest = np.finfo(np.float32).max
    assert amplified(np.array([[largest], [-largest]], np.float32), 6).tolist() == [[largest], [-largest]]
