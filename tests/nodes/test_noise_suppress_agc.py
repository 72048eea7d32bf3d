"""NoiseSuppressAGC against the library called directly on the whole stream, and by its effect on levels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nodes.contract import Audio, InvalidInput
from nodes.noise_suppress_agc import NoiseSuppressAGC
from tests.e2e.sounds import speech
from tests.kits import check_node, cut, run, signal

webrtc_noise_gain = pytest.importorskip("webrtc_noise_gain")

Samples = np.ndarray[Any, np.dtype[Any]]


def cleaned(frames: Samples, rate: int = 16_000, sizes: Sequence[int] = (), **params: Any) -> Samples:
    ((start, given),) = run(NoiseSuppressAGC(**params), cut(frames, sizes, rate, start=77)).runs
    assert start == 77
    return given


def rms(frames: Samples) -> float:
    return float(np.sqrt(np.mean(frames.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    ("rate", "channels", "formats"), [(16_000, 1, ("f32", "i16", "i32")), (16_000, 3, ("i16",)), (44_100, 2, ("f32",))]
)
def test_conforms(rate: int, channels: int, formats: Sequence[str]) -> None:
    check_node(
        NoiseSuppressAGC,
        rates=(rate,),
        channels=(channels,),
        formats=formats,
        settles_s=2.0,
        tolerance=0.0 if rate == 16_000 else 1e-3,  # the library rounds to 16 bits
        faults=[{"noise_suppression": 5}],
        refuse=lambda block: Audio(np.full((3, block.channels), np.inf, np.float32), block.sample_rate, block.start),
    )


@pytest.mark.parametrize("level", [0, 1, 4])
@pytest.mark.parametrize("auto_gain", [False, True])
def test_equals_the_library_called_on_the_whole(level: int, auto_gain: bool) -> None:
    frames = speech(16_000, 1.0)[:, None]
    processor = webrtc_noise_gain.AudioProcessor(int(auto_gain), level)
    lag = 96 if level else 0
    padded = np.concatenate((frames[:, 0], np.zeros(160, np.int16)))
    whole = b"".join(processor.Process10ms(padded[at : at + 160].tobytes()).audio for at in range(0, len(padded), 160))
    expected = np.frombuffer(whole, np.int16)[lag:][: len(frames)]
    given = cleaned(frames, sizes=[333] * 40, noise_suppression=level, auto_gain=auto_gain)
    assert np.array_equal(given[:, 0], expected)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_samples_stay_at_their_positions(rate: int) -> None:
    frames = (0.1 * np.random.default_rng(5).standard_normal((rate, 1))).astype(np.float32)
    given = cleaned(frames, rate, noise_suppression=1, auto_gain=False)
    likeness = [float(np.vdot(np.roll(given, -lag, axis=0), frames)) for lag in range(-9, 10)]
    assert int(np.argmax(likeness)) == 9


def test_noise_is_suppressed_by_as_much_as_the_level_says() -> None:
    noise = (0.01 * np.random.default_rng(5).standard_normal((48_000, 1))).astype(np.float32)
    left = [
        rms(cleaned(noise, noise_suppression=level, auto_gain=False)[32_000:]) / rms(noise[32_000:])
        for level in range(5)
    ]
    assert left == sorted(left, reverse=True)
    assert left[0] > 0.95
    assert left[4] < 0.12


def test_gain_control_lifts_quiet_speech() -> None:
    quiet = speech(16_000, 3.0)[:, None] // 8
    assert rms(cleaned(quiet, noise_suppression=0)[32_000:]) > 2 * rms(quiet[32_000:])


def test_a_rate_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InvalidInput, match="62 Hz"):
        NoiseSuppressAGC().process(Audio(signal(10), 62))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webrtc_noise_gain", None)
    with pytest.raises(ValueError, match=r"headrace\[denoise\]"):
        NoiseSuppressAGC()
