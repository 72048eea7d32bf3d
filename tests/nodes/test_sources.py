"""Tone and Noise against closed formulas and statistics: the same samples at the same positions."""

from __future__ import annotations

import numpy as np
import pytest

from nodes.conformance import check_node, signal
from nodes.contract import Audio, InvalidInput
from nodes.noise import Noise
from nodes.tone import Tone

NAN = np.full((4, 1), np.nan, np.float32)


def test_tone_conforms() -> None:
    check_node(
        lambda **params: Tone(**{"frequency_hz": 997, **params}),
        faults=[{"frequency_hz": 0}, {"level_dbfs": 0.1}],
        refuse=lambda block: Audio(block.frames, 1_000, block.start),
    )


def test_noise_conforms() -> None:
    check_node(
        lambda **params: Noise(**{"mix": True, **params}),
        formats=("f32", "i16"),
        faults=[{"level_dbfs": 0}, {"seed": -1}, {"seed": 2**32}],
    )


def test_tone_is_the_closed_formula_far_into_a_stream() -> None:
    start = 48_000 * 3_600 * 24 * 30
    (out,) = Tone(frequency_hz=1_000, level_dbfs=-6).process(Audio(signal(96, 2), 48_000, start))
    expected = 10 ** (-6 / 20) * np.sin(2 * np.pi * np.arange(96) / 48)  # `start` is a whole number of periods
    assert np.allclose(out.frames, np.stack([expected, expected], axis=1), atol=1e-5)
    assert out.start == start


def test_noise_has_its_level_no_colour_and_unlike_channels() -> None:
    (out,) = Noise(level_dbfs=-20, seed=3).process(Audio(np.zeros((100_000, 2), np.float32), 48_000))
    first, second = out.frames[:, 0].astype(np.float64), out.frames[:, 1].astype(np.float64)
    assert np.sqrt(np.mean(first**2)) == pytest.approx(0.1, rel=0.01)
    assert abs(np.mean(first)) < 0.002
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02, "adjacent samples must not correlate"
    (other,) = Noise(level_dbfs=-20, seed=4).process(Audio(np.zeros((100_000, 1), np.float32), 48_000))
    assert abs(np.corrcoef(first, other.frames[:, 0])[0, 1]) < 0.02


@pytest.mark.parametrize("node", [Tone(mix=True, level_dbfs=0), Noise(mix=True, level_dbfs=-5)])
def test_mixed_it_is_added_and_clipped(node: Tone | Noise) -> None:
    block = Audio(signal(500), 16_000, 11)
    (alone,) = type(node)(level_dbfs=node.level_dbfs).process(block)
    (mixed,) = node.process(block)
    assert np.allclose(mixed.frames, block.frames + alone.frames, atol=1e-6)
    loud = Audio(np.full((500, 1), 32_767, np.int16), 16_000)
    (clipped,) = node.process(loud)
    assert clipped.frames.max() == 32_767
    with pytest.raises(InvalidInput, match="not finite"):
        list(node.process(Audio(NAN, 16_000)))
