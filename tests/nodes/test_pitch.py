"""Pitch finds known frequencies within half a percent, and no pitch in noise and silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.conformance import check_node
from nodes.contract import Audio, InvalidInput
from nodes.pitch import Pitch, _difference


def voice(frequency_hz: float, seconds: float, rate: int) -> Any:
    """Return six harmonics, falling by 6 dB an octave, shape (n, 1); the second is stronger than the fundamental."""
    t = np.arange(round(seconds * rate)) / rate
    parts = [np.sin(2 * np.pi * frequency_hz * k * t + k) / k for k in range(1, 7) if frequency_hz * k < rate / 2]
    return (0.1 * (sum(parts) + 0.8 * np.sin(4 * np.pi * frequency_hz * t)))[:, None].astype(np.float32)


def estimates(frames: Any, rate: int, **params: Any) -> list[float | None]:
    return [hz for item in Pitch(**params).process(Audio(frames, rate)) for hz in item.value["pitch_hz"]]


def test_conforms() -> None:
    check_node(
        lambda **params: Pitch(**{"min_hz": 100, **params}),
        formats=("f32",),
        rates=(16_000, 11_025),
        findings=lambda value: value,
        faults=[{"min_hz": 0}, {"min_hz": 600}, {"threshold": 0}, {"hop_ms": 21}],
        refuse=lambda block: Audio(np.full(block.frames.shape, np.inf, np.float32), block.sample_rate, block.start),
    )


@settings(max_examples=40)
@given(st.floats(65, 480), st.sampled_from([8_000, 16_000, 44_100]))
def test_finds_the_fundamental(frequency_hz: float, rate: int) -> None:
    found = estimates(voice(frequency_hz, 0.2, rate), rate)
    assert len(found) == (round(0.2 * rate) - round(2 / 60 * rate)) // round(0.01 * rate) + 1
    assert found == pytest.approx([frequency_hz] * len(found), rel=0.005)


def test_follows_a_glide() -> None:
    rate = 16_000
    t = np.arange(rate) / rate
    frames = (0.3 * np.sin(2 * np.pi * (100 * t + 50 * t**2)))[:, None].astype(np.float32)  # 100 to 200 Hz in 1 s
    centres = np.arange(len(found := estimates(frames, rate))) * 0.010 + 1 / 60
    assert found == pytest.approx((100 + 100 * centres).tolist(), rel=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(5).normal(0, 0.1, (16_000, 1)).astype(np.float32)
    assert set(estimates(noise, 16_000)) == {None}
    (item,) = Pitch().process(Audio(np.zeros((1_600, 1), np.int16), 16_000))
    assert set(item.value["pitch_hz"]) == {None}
    assert set(item.value["confidence"]) == {0.0}


def test_confidence_falls_with_noise() -> None:
    clean = voice(150, 0.5, 16_000)
    noise = np.random.default_rng(5).normal(0, 0.02, clean.shape).astype(np.float32)
    sure, less = (
        [value for item in Pitch().process(Audio(frames, 16_000)) for value in item.value["confidence"]]
        for frames in (clean, clean + noise)
    )
    assert min(sure) > 0.99
    assert 0.8 < np.mean(less) < 0.98


def test_the_difference_function_is_its_definition() -> None:
    windows = np.random.default_rng(2).normal(size=(3, 50))
    slow = [[np.sum((x[:25] - x[lag : lag + 25]) ** 2) for lag in range(26)] for x in windows]
    assert np.allclose(_difference(windows), slow, atol=1e-10)


def test_too_low_a_rate_is_refused_and_little_is_held() -> None:
    with pytest.raises(InvalidInput, match="at least four times max_hz, 2000 Hz"):
        Pitch().process(Audio(voice(100, 0.1, 1_999), 1_999))
    node = Pitch()
    for start in range(0, 160_000, 16_000):
        list(node.process(Audio(np.zeros((16_000, 1), np.int16), 16_000, start)))
        assert node.memory_bytes <= round(16_000 / 30) * 8
