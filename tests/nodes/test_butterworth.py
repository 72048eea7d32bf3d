"""HighPass, LowPass, BandPass and DCBlock against closed formulas and SciPy on the whole stream."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nodes.bases.filter_node import FilterNode
from nodes.butterworth import BandPass, HighPass, LowPass
from nodes.contract import Audio, InvalidInput
from nodes.dc_block import DCBlock
from nodes.dsp.sos import SectionsFilter
from tests.kits import check_node, cut, run, signal

scipy_signal = pytest.importorskip("scipy.signal")

NODES: Mapping[type[FilterNode], Mapping[str, Any]] = {
    HighPass: {"cutoff_hz": 200.0},
    LowPass: {"cutoff_hz": 1_500.0, "order": 5},
    BandPass: {},
    DCBlock: {},
}


def filtered(node: FilterNode, frames: Any, rate: int = 16_000, size: int = 100_000) -> Any:
    ((start, given),) = run(node, cut(frames, [size] * (len(frames) // size), rate, start=77)).runs
    assert start == 77
    return given


def power_response(node: FilterNode, rate: int = 16_000) -> tuple[Any, Any]:
    """Return frequencies in Hz, without 0 and half the rate, and the power gain of the node at each."""
    impulse = np.zeros((rate, 1), np.float32)
    impulse[0] = 1.0
    spectrum = np.fft.rfft(filtered(node, impulse, rate)[:, 0].astype(np.float64))
    return np.fft.rfftfreq(rate, 1 / rate)[1:-1], np.abs(spectrum[1:-1]) ** 2


def warped(hz: Any, rate: int = 16_000) -> Any:
    """Return the analogue frequency under the bilinear transform."""
    return np.tan(np.pi * hz / rate)


@pytest.mark.parametrize("node_type", NODES)
def test_conforms(node_type: type[FilterNode]) -> None:
    check_node(
        lambda **params: node_type(**{**NODES[node_type], **params}),
        formats=("f32", "i16", "i32") if node_type is HighPass else ("f32", "i16"),
        channels=(1, 3) if node_type is HighPass else (2,),
        refuse=lambda block: Audio(np.full((3, block.channels), np.nan, np.float32), block.sample_rate, block.start),
    )


@pytest.mark.parametrize("order", [1, 2, 4, 7, 12])
def test_high_and_low_pass_have_the_power_of_the_closed_formula(order: int) -> None:
    hz, low = power_response(LowPass(cutoff_hz=1_000.0, order=order))
    _, high = power_response(HighPass(cutoff_hz=1_000.0, order=order))
    ratio = (warped(hz) / warped(1_000.0)) ** (2 * order)
    assert np.allclose(low, 1 / (1 + ratio), atol=1e-6)
    assert np.allclose(high, ratio / (1 + ratio), atol=1e-6)


def test_band_pass_has_the_power_of_the_closed_formula() -> None:
    hz, power = power_response(BandPass(low_hz=500.0, high_hz=2_000.0, order=3))
    low, high = warped(500.0), warped(2_000.0)
    ratio = ((warped(hz) ** 2 - low * high) / (warped(hz) * (high - low))) ** 6
    assert np.allclose(power, 1 / (1 + ratio), atol=1e-6)


def test_dc_block_is_its_difference_equation() -> None:
    frames = signal(4_000) + np.float32(0.3)
    pole = (1 - warped(20.0)) / (1 + warped(20.0))
    expected, before, last = [], 0.0, 0.0
    for sample in frames[:, 0].astype(np.float64):
        last = (1 + pole) / 2 * (sample - before) + pole * last
        before = sample
        expected.append(last)
    assert np.allclose(filtered(DCBlock(cutoff_hz=20.0), frames, size=333)[:, 0], expected, atol=1e-6)


def test_dc_block_takes_out_an_offset_and_leaves_speech() -> None:
    offset = filtered(DCBlock(), np.full((16_000, 2), 0.5, np.float32))
    assert np.abs(offset[8_000:]).max() < 1e-6
    hz, power = power_response(DCBlock())
    assert power[hz >= 50].min() > 0.99


@pytest.mark.parametrize("node", [LowPass(cutoff_hz=400.0), BandPass(low_hz=700.0, high_hz=1_400.0)])
def test_the_stated_delay_is_the_group_delay_in_the_band(node: LowPass | BandPass) -> None:
    if isinstance(node, LowPass):
        kind, middle, cutoff_hz = "lowpass", 2.0, node.cutoff_hz
    else:
        kind, middle, cutoff_hz = "bandpass", (node.low_hz * node.high_hz) ** 0.5, (node.low_hz, node.high_hz)
    sections = scipy_signal.butter(node.order, cutoff_hz, kind, fs=48_000, output="sos")
    _, response = scipy_signal.sosfreqz(sections, [middle - 0.5, middle + 0.5], fs=48_000)
    assert node.delay == pytest.approx(-np.angle(response[1] / response[0]) / (2 * np.pi), rel=0.01)


@pytest.mark.parametrize("node", [HighPass(cutoff_hz=8_000.0), LowPass(cutoff_hz=9_000.0), BandPass(high_hz=1e4)])
def test_a_frequency_beyond_half_the_rate_is_refused(node: FilterNode) -> None:
    with pytest.raises(InvalidInput, match="half the sample rate, 8000 Hz"):
        node.process(Audio(signal(10), 16_000))


@pytest.mark.parametrize(
    ("node_type", "params"),
    [
        (HighPass, {"cutoff_hz": 0.0}),
        (LowPass, {"cutoff_hz": 100.0, "order": 0}),
        (BandPass, {"low_hz": 3_400.0}),
        (DCBlock, {"cutoff_hz": -5.0}),
    ],
)
def test_parameters_that_make_no_filter_are_faults(node_type: type[FilterNode], params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        node_type(**params)


@pytest.mark.parametrize("cutoff_hz", [0.1, 383_999.0])
def test_the_most_extreme_filters_are_stable(cutoff_hz: float) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (100_000, 1)).astype(np.float32)
    for node_type in (HighPass, LowPass):
        given = filtered(node_type(cutoff_hz=cutoff_hz, order=12), noise, 768_000)
        assert np.abs(given).max() < 10


def test_the_greatest_floats_stay_finite() -> None:
    loud = np.where(np.arange(100)[:, None] % 2, 1, -1) * np.finfo(np.float32).max
    assert np.isfinite(filtered(HighPass(cutoff_hz=7_000.0), loud.astype(np.float32))).all()


def test_an_hour_is_held_in_bounded_memory() -> None:
    node, held = HighPass(), set()
    for minute in range(60):
        list(node.process(Audio(signal(60_000, rate=1_000), 1_000, minute * 60_000)))
        held.add(node.memory_bytes)
    assert held == {2 * 2 * 8}  # two sections


def test_after_sound_silence_is_exactly_zero_not_denormal() -> None:
    sections = scipy_signal.butter(2, 1_000.0, "lowpass", fs=16_000, output="sos")
    low_pass, silence = SectionsFilter(sections, 1), np.zeros((320, 1), np.float32)
    low_pass.run(signal(320))
    assert np.any(low_pass.run(silence))
    for _ in range(50):
        settled = low_pass.run(silence)
    assert not settled.any()


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(ValueError, match=r"headrace\[dsp\]"):
        HighPass()
