"""AudioLevel against closed formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.audio_level import AudioLevel
from nodes.contract import Audio, InvalidInput
from tests.kits import check_node, cut, run, signal


def level(frames: np.ndarray[Any, Any], rate: int = 16_000, start: int = 0) -> dict[str, Any]:
    (data,) = AudioLevel().process(Audio(frames, rate, start))
    return dict(data.value)


def test_conforms() -> None:
    check_node(
        AudioLevel,
        findings=lambda value: (
            value and [round(value["rms_dbfs"], 6), value["peak_dbfs"], value["frames"], round(value["duration_ms"])]
        ),
        refuse=lambda block: Audio(np.full((3, block.channels), np.inf, np.float32), block.sample_rate, block.start),
    )


@pytest.mark.parametrize("amplitude", [1.0, 0.5, 0.001])
def test_a_sine_is_three_decibels_below_its_peak(amplitude: float) -> None:
    sine = amplitude * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000)
    value = level(sine.astype(np.float32)[:, None])
    assert value["rms_dbfs"] == pytest.approx(20 * np.log10(amplitude) - 10 * np.log10(2), abs=1e-4)
    assert value["peak_dbfs"] == pytest.approx(20 * np.log10(amplitude), abs=1e-4)


@pytest.mark.parametrize(("dtype", "lowest"), [(np.int16, -(2**15)), (np.int32, -(2**31))])
def test_full_scale_integers_are_zero_decibels(dtype: type, lowest: int) -> None:
    value = level(np.full((100, 1), lowest, dtype))
    assert value["rms_dbfs"] == value["peak_dbfs"] == 0.0


def test_silence_is_the_floor() -> None:
    assert level(np.zeros((10, 2), np.float32))["rms_dbfs"] == -120
    assert level(np.full((10, 2), 1e-9, np.float32))["peak_dbfs"] == -120


def test_channels_have_their_own_levels() -> None:
    value = level(np.array([[1.0, 0.1], [-1.0, -0.1]], np.float32))
    assert [one["rms_dbfs"] for one in value["channels"]] == pytest.approx([0, -20], abs=1e-6)
    assert value["rms_dbfs"] == pytest.approx(10 * np.log10((1 + 0.01) / 2))
    assert value["peak_dbfs"] == 0


def test_the_greatest_floats_are_measured_too() -> None:
    assert level(np.full((4, 1), np.finfo(np.float32).max, np.float32))["rms_dbfs"] == pytest.approx(770.637, abs=1e-2)


def test_says_which_stretch_it_is_about() -> None:
    (data,) = AudioLevel().process(Audio(signal(441), 44_100, 44_100))
    assert (data.at, data.until) == (1.0, 1.01)
    assert (data.value["timestamp_ms"], data.value["duration_ms"]) == (1_000.0, 10.0)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(InvalidInput):
        level(np.array([[np.nan]], np.float32))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_joined_blocks_have_the_level_of_the_whole(sizes: list[int]) -> None:
    frames = signal(2_000, 2)
    node = AudioLevel()
    joined = node.join(run(node, cut(frames, sizes, 16_000)).data)
    squares = frames.astype(np.float64) ** 2
    assert joined.value["rms_dbfs"] == pytest.approx(10 * np.log10(squares.mean()))
    assert joined.value["channels"][1]["mean_square"] == pytest.approx(squares[:, 1].mean())
    assert joined.value["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(frames).max()))
    assert (joined.value["frames"], joined.at, joined.until) == (2_000, 0.0, 0.125)
