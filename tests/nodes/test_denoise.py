"""Denoise against RNNoise called directly on the whole stream, and by its effect on speech in noise."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import engine.cli
from nodes.contract import Audio, InvalidInput
from nodes.denoise import Denoise
from nodes.libraries import rnnoise
from tests.kits import check_node, cut, run, signal

if importlib.util.find_spec("pyrnnoise") is None:  # not imported, because it would import matplotlib
    pytest.skip("needs the extra `denoise`", allow_module_level=True)

Samples = np.ndarray[Any, np.dtype[np.float32]]


def denoised(frames: Samples, rate: int, size: int = 1_000_000) -> Samples:
    ((start, given),) = run(Denoise(), cut(frames, [size] * (len(frames) // size), rate, start=77)).runs
    assert start == 77
    return given


def noise(n_frames: int, level: float) -> Samples:
    return (level * np.random.default_rng(3).standard_normal((n_frames, 1))).astype(np.float32)


def rms(frames: Samples) -> float:
    return float(np.sqrt(np.mean(frames.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    ("rate", "channels", "formats", "tolerance"),
    [(48_000, 1, ("f32", "i16", "i32"), 0.0), (48_000, 3, ("f32",), 0.0), (16_000, 1, ("i16",), 1e-5)],
)
def test_conforms(rate: int, channels: int, formats: Sequence[str], tolerance: float) -> None:
    check_node(
        Denoise,
        rates=(rate,),
        channels=(channels,),
        formats=formats,
        tolerance=tolerance,
        settles_s=0.5,
        refuse=lambda block: Audio(np.full((3, block.channels), np.nan, np.float32), block.sample_rate, block.start),
    )


def test_equals_the_library_called_on_the_whole() -> None:
    library = rnnoise.load_rnnoise()
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    state = library.rnnoise_create(None)
    frames = signal(48_000, rate=48_000)
    samples = np.concatenate((frames[:, 0] * np.float32(32_768), np.zeros(960, np.float32)))
    for at in range(0, len(samples), 480):
        library.rnnoise_process_frame(state, samples[at:].ctypes.data, samples[at:].ctypes.data)
    library.rnnoise_destroy(state)
    assert np.array_equal(denoised(frames, 48_000, 777)[:, 0], samples[960:] / np.float32(32_768))


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_noise_goes_and_speech_stays_in_its_place(rate: int) -> None:
    recorded, recorded_rate = soundfile.read(Path(engine.cli.__file__).parent / "data/speech.flac", dtype="float32")
    at = np.arange(0, 3 * rate) * (recorded_rate / rate)
    speech = np.interp(at, np.arange(len(recorded)), recorded).astype(np.float32)[:, None]
    cleaned = denoised(speech + noise(len(speech), 0.1 * rms(speech)), rate)
    lags = range(-20, 21)
    likeness = [float(np.vdot(np.roll(cleaned, -lag, axis=0), speech)) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0
    assert rms(cleaned) == pytest.approx(rms(speech), rel=0.25)
    quiet = noise(2 * rate, 0.03)
    assert rms(denoised(quiet, rate)[rate // 2 :]) < 0.1 * rms(quiet)  # 20 dB


def test_each_channel_is_denoised_on_its_own() -> None:
    frames = signal(9_600, 2, rate=48_000)
    both = denoised(frames, 48_000)
    for channel in (0, 1):
        assert np.array_equal(both[:, [channel]], denoised(frames[:, [channel]], 48_000))


def test_what_is_beyond_full_scale_is_clipped() -> None:
    frames = signal(9_600, rate=48_000)
    loud = np.where(np.abs(frames) > 0.5, np.sign(frames) * np.finfo(np.float32).max, frames)
    assert np.array_equal(denoised(loud, 48_000), denoised(np.clip(loud, -1, 1), 48_000))


def test_a_rate_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InvalidInput, match="187 Hz"):
        Denoise().process(Audio(signal(10), 187))


def test_an_hour_is_held_in_bounded_memory() -> None:
    node = Denoise()
    block = signal(480, rate=48_000)
    held = set()
    for index in range(50):
        list(node.process(Audio(block, 48_000, index * 72 * 48_000)))  # 72 s apart: an hour of stretches
        held.add(node.memory_bytes)
    assert len(held) == 1


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rnnoise.load_rnnoise.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"headrace\[denoise\]"):
        Denoise()
