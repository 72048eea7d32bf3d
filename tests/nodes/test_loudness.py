"""Loudness against the coefficients of BS.1770, pyloudnorm, and the test signals of EBU Tech 3341."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from nodes.conformance import check_node, cut, run, signal
from nodes.contract import Audio, InvalidInput
from nodes.dsp.k_weighting import k_weighting
from nodes.loudness import Loudness

pytest.importorskip("scipy.signal")

RATE = 16_000
EBU_TOLERANCE_LU = 0.1
"""Error that Tech 3341 allows a meter."""


def tones(levels_dbfs: Sequence[tuple[float, float]], rate: int = RATE, channels: int = 2) -> Any:
    """Return a 1 kHz sine, in phase in all channels, with the given amplitudes as (level in dBFS, seconds)."""
    amplitude = np.concatenate([np.full(round(rate * seconds), 10 ** (db / 20)) for db, seconds in levels_dbfs])
    sine = amplitude * np.sin(2 * np.pi * 1_000 * np.arange(len(amplitude)) / rate)
    return np.repeat(sine[:, None], channels, axis=1).astype(np.float32)


def measured(frames: Any, rate: int = RATE, sizes: Sequence[int] = (), **params: Any) -> list[Mapping[str, Any]]:
    return [item.value for item in run(Loudness(**params), cut(frames, list(sizes), rate)).data]


def last(frames: Any, rate: int = RATE, **params: Any) -> Mapping[str, Any]:
    return measured(frames, rate, **params)[-1]


def test_conforms() -> None:
    check_node(
        Loudness,
        formats=("f32", "i16"),
        rates=(11_025,),
        findings=lambda value: value,
        faults=[{"channel_weights": [1.0, -1.0]}, {"channel_weights": [float("nan")]}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


def test_k_weighting_has_the_coefficients_of_the_recommendation() -> None:
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    assert np.allclose(k_weighting(48_000), [shelf, high_pass], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_integrated_loudness_is_pyloudnorms(rate: int, channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    frames = np.concatenate([level * signal(rate, channels, rate=rate) for level in (0.01, 0.5, 0.15, 0.2, 1e-3, 1e-5)])
    meter = pyloudnorm.Meter(rate, filter_class="DeMan")
    assert last(frames, rate)["integrated_lufs"] == pytest.approx(meter.integrated_loudness(frames), abs=0.02)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize(("name", "seconds"), [("momentary_lufs", 0.4), ("short_term_lufs", 3.0)])
def test_loudness_of_a_window_is_pyloudnorms_of_one_block(name: str, seconds: float, rate: int, channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    frames = signal(round(seconds * rate), channels, rate=rate)
    meter = pyloudnorm.Meter(rate, filter_class="DeMan", block_size=seconds)
    assert last(frames, rate)[name] == pytest.approx(meter.integrated_loudness(frames), abs=0.01)


@pytest.mark.parametrize(
    ("levels_dbfs", "expected"),
    [
        ([(-23, 20)], -23),  # 1
        ([(-33, 20)], -33),  # 2
        ([(-36, 10), (-23, 60), (-36, 10)], -23),  # 3
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),  # 4
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23),  # 5
        ([(-65, 10), (-72, 40)], -65),  # not in Tech 3341: the gate at -70 excludes what the relative one would not
    ],
)
def test_stereo_tones_of_tech_3341(levels_dbfs: Sequence[tuple[float, float]], expected: float) -> None:
    value = last(tones(levels_dbfs, rate=8_000), rate=8_000)
    assert value["integrated_lufs"] == pytest.approx(expected, abs=EBU_TOLERANCE_LU)
    if len(levels_dbfs) == 1:
        assert value["momentary_lufs"] == pytest.approx(expected, abs=EBU_TOLERANCE_LU)
        assert value["short_term_lufs"] == pytest.approx(expected, abs=EBU_TOLERANCE_LU)


def test_five_channel_tone_of_tech_3341() -> None:
    """Check case 6 as five channels, and as six channels with a loud LFE, which does not count."""
    amplitudes = np.array([10 ** (db / 20) for db in (-28, -28, -24, -30, -30)])
    five = (tones([(0, 5)], channels=5) * amplitudes).astype(np.float32)
    assert last(five)["integrated_lufs"] == pytest.approx(-23, abs=EBU_TOLERANCE_LU)
    six = np.insert(five, 3, tones([(0, 5)], channels=1)[:, 0], axis=1)
    assert last(six)["integrated_lufs"] == last(five)["integrated_lufs"]


def test_short_term_tones_of_tech_3341() -> None:
    """Check case 9: every 3 s of the sequence have the same loudness."""
    values = measured(tones([(-20, 1.34), (-30, 1.66)] * 3), sizes=[1_600] * 90)
    heard = [value["short_term_lufs"] for value in values if value["short_term_lufs"] is not None]
    assert len(heard) == 61
    assert heard == pytest.approx([-23] * 61, abs=EBU_TOLERANCE_LU)


def test_momentary_tones_of_tech_3341() -> None:
    """Check case 12, here with a period of 400 ms: every 400 ms have the same loudness."""
    values = measured(tones([(-20, 0.18), (-30, 0.22)] * 10), sizes=[1_600] * 40)
    heard = [value["momentary_lufs"] for value in values if value["momentary_lufs"] is not None]
    assert len(heard) == 37
    assert heard[1:] == pytest.approx([-23] * 36, abs=EBU_TOLERANCE_LU)


def test_the_greatest_are_kept_however_long_the_blocks() -> None:
    value = last(tones([(-40, 4), (-20, 3), (-40, 4)]))
    assert value["max_momentary_lufs"] == pytest.approx(-20, abs=EBU_TOLERANCE_LU)
    assert value["max_short_term_lufs"] == pytest.approx(-20, abs=EBU_TOLERANCE_LU)
    assert value["momentary_lufs"] == pytest.approx(-40, abs=EBU_TOLERANCE_LU)


def test_silence_and_little_have_no_loudness() -> None:
    assert measured(np.zeros((1_599, 1), np.int16)) == []
    (silence,) = measured(np.zeros((RATE, 1), np.int16))
    assert silence["momentary_lufs"] == -120
    assert silence["short_term_lufs"] is None
    assert silence["integrated_lufs"] is None


def test_a_gap_begins_the_windows_anew_and_keeps_the_programme() -> None:
    node, block = Loudness(), tones([(-23, 1)])
    (before,) = node.process(Audio(block, RATE))
    (after,) = node.process(Audio(block[:1_600], RATE, 3 * RATE))
    assert after.value["momentary_lufs"] is None
    assert after.value["integrated_lufs"] == before.value["integrated_lufs"]
    assert (after.at, after.until) == (3.0, 3.1)


def test_weights_are_what_the_channels_count() -> None:
    frames = tones([(-20, 1), (-20, 0)])
    assert last(frames, channel_weights=[1.0, 0.0])["integrated_lufs"] == last(frames[:, :1])["integrated_lufs"]
    with pytest.raises(InvalidInput, match="has 1 numbers, the stream has 2 channels"):
        last(frames, channel_weights=[1.0])
    with pytest.raises(InvalidInput, match="8000 Hz and more"):
        last(frames, rate=4_000)


def test_hours_take_no_more_memory_than_seconds() -> None:
    node, block = Loudness(), tones([(-30, 10), (-20, 10)], rate=8_000, channels=1)
    held = set()
    for number in range(18):
        list(node.process(Audio(block, 8_000, number * len(block))))
        held.add(node.memory_bytes)
    assert max(held) == min(held) < 20_000
