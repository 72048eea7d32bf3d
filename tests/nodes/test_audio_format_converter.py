"""AudioFormatConverter is exact where the format allows it, and clips otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.audio_format_converter import AudioFormatConverter
from nodes.contract import Audio, InvalidInput
from tests.kits import check_node, signal


def converted(frames: Any, target_format: Any, dither: bool = False) -> np.ndarray[Any, Any]:
    (out,) = AudioFormatConverter(target_format=target_format, dither=dither).process(Audio(frames, 8_000, 3))
    assert (out.sample_rate, out.start) == (8_000, 3)
    return out.frames


@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("target_format", ["f32", "i16", "i32"])
def test_conforms(target_format: str, dither: bool) -> None:
    check_node(
        lambda **params: AudioFormatConverter(**{"target_format": target_format, "dither": dither, **params}),
        channels=(1, 3),
        keeps_format=False,
        faults=[{"target_format": "u8"}, {"target_format": ""}],
        refuse=None
        if target_format == "f32"
        else lambda block: Audio(np.full((3, block.channels), np.nan, np.float32), block.sample_rate, block.start),
    )


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1))
def test_int16_survives_the_way_through_the_others(values: list[int]) -> None:
    frames = np.array(values, np.int16)[:, None]
    assert np.array_equal(converted(converted(frames, "f32"), "i16"), frames)
    assert np.array_equal(converted(converted(frames, "i32"), "i16"), frames)
    assert np.array_equal(converted(frames, "i32"), frames.astype(np.int64) << 16)


def test_int32_to_int16_is_rounded_once() -> None:
    half = 1 << 15
    frames = np.array([[half - 1], [half + 1], [-half + 1], [-half - 1], [3 * half - 1]], np.int32)
    assert converted(frames, "i16").tolist() == [[0], [1], [0], [-1], [1]]


def test_beyond_full_scale_clips() -> None:
    frames = np.array([[1.0], [-1.0], [7.0], [-7.0], [3e38], [-3e38]], np.float32)
    for target, lowest, highest in (("i16", -(2**15), 2**15 - 1), ("i32", -(2**31), 2**31 - 1)):
        assert converted(frames, target)[:, 0].tolist() == [highest, lowest] * 3
    assert converted(np.array([[2**31 - 1]], np.int32), "i16").tolist() == [[2**15 - 1]]


def test_dither_makes_the_mean_right_below_one_step() -> None:
    quarter = np.full((40_000, 1), 0.25 / 32_768, np.float32)
    assert converted(quarter, "i16").max() == 0
    dithered = converted(quarter, "i16", dither=True)
    assert dithered.mean() == pytest.approx(0.25, abs=0.02)
    assert set(np.unique(dithered)) == {-1, 0, 1}
    error = dithered - 0.25
    assert error.var() == pytest.approx(3 / 12, rel=0.03)  # triangular 2/12, rounding 1/12


def test_dither_differs_between_channels_and_leaves_alone_what_loses_nothing() -> None:
    silent = np.zeros((1_000, 2), np.float32)
    left, right = converted(silent, "i16", dither=True).T
    assert not np.array_equal(left, right)
    assert not converted(silent, "i32", dither=True).any()
    exact = signal(100, 2, "i16")
    assert np.array_equal(converted(exact, "f32", dither=True), exact / np.float32(32_768))


def test_not_a_number_is_refused() -> None:
    with pytest.raises(InvalidInput):
        converted(np.array([[np.nan]], np.float32), "i16")
