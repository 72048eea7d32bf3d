"""Spectrogram, MelSpectrogram and MFCC equal one-shot references (SciPy, librosa's formulas) within rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.bases.spectral_feature import SpectralFeature
from nodes.conformance import check_node, cut, run, signal
from nodes.contract import Audio, InvalidInput
from nodes.dsp.spectra import dct_matrix, mel_filters
from nodes.mel_spectrogram import MelSpectrogram
from nodes.mfcc import MFCC
from nodes.spectrogram import Spectrogram

Array = np.ndarray[Any, Any]

LIBROSA_MEL_40 = [  # `librosa.mel_frequencies(n_mels=40)`, as printed in librosa's documentation
    0.0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855,
    853.173, 938.49, 1024.856, 1119.114, 1222.042, 1334.436, 1457.167, 1591.187, 1737.532, 1897.337,
    2071.84, 2262.393, 2470.47, 2697.686, 2945.799, 3216.731, 3512.582, 3835.643, 4188.417, 4573.636,
    4994.285, 5453.621, 5955.205, 6502.92, 7101.009, 7754.107, 8467.272, 9246.028, 10096.408, 11025.0,
]  # fmt: skip


def features(node: SpectralFeature, frames: Array, rate: int, sizes: list[int]) -> Array:
    outcome = run(node, cut(frames, sizes, rate))
    return np.array([row for item in outcome.data for row in item.value["frames"]])


def power(frames: Array, rate: int, size: int, hop: int, fft_size: int) -> Array:
    """Return |FFT|² by SciPy, shape (windows, bins)."""
    scipy_signal = pytest.importorskip("scipy.signal")
    _, _, magnitude = scipy_signal.spectrogram(
        frames[:, 0].astype(np.float64), rate, "hann", size, size - hop, fft_size,
        detrend=False, scaling="spectrum", mode="magnitude",
    )  # fmt: skip
    return (magnitude.T * scipy_signal.get_window("hann", size).sum()) ** 2


def levels(values: Array) -> Array:
    return 10 * np.log10(np.maximum(1e-10, values))


def triangles(rate: int, fft_size: int, edges: Array) -> Array:
    bins = np.arange(fft_size // 2 + 1) * rate / fft_size
    return np.array(
        [np.interp(bins, edges[k : k + 3], [0, 2 / (edges[k + 2] - edges[k]), 0]) for k in range(len(edges) - 2)]
    )


@pytest.mark.parametrize("kind", [Spectrogram, MelSpectrogram, MFCC])
def test_conforms(kind: type[SpectralFeature]) -> None:
    more = [{"bands": 0}, {"min_hz": 500, "max_hz": 400}] if kind is not Spectrogram else [{"max_hz": 0}]
    more += [{"coefficients": 41}] if kind is MFCC else []
    check_node(
        kind,
        formats=("f32",),
        rates=(16_000, 22_050),
        findings=lambda value: value,
        faults=[{"window_ms": 0}, {"hop_ms": 26}, {"hop_ms": 0}, *more],
        refuse=lambda block: Audio(np.full(block.frames.shape, np.nan, np.float32), block.sample_rate, block.start),
    )


@pytest.mark.parametrize(("rate", "size", "hop"), [(16_000, 400, 160), (44_100, 1_102, 441)])
def test_spectrogram_is_scipys(rate: int, size: int, hop: int) -> None:
    frames = signal(4_001, rate=rate)
    fft_size = 1 << (size - 1).bit_length()
    expected = levels(power(frames, rate, size, hop, fft_size))
    assert np.allclose(features(Spectrogram(), frames, rate, [333] * 20), expected, atol=0.0051, rtol=0)
    few = features(Spectrogram(max_hz=1_000), frames, rate, [])
    assert np.allclose(few, expected[:, : 1_000 * fft_size // rate + 1], atol=0.0051, rtol=0)


def test_mel_bands_are_librosas() -> None:
    filters = mel_filters(22_050, 2_048, 38, 0.0, 11_025.0)
    assert np.allclose(filters, triangles(22_050, 2_048, np.array(LIBROSA_MEL_40)), atol=1e-6)
    # The value in librosa's documentation.
    assert mel_filters(22_050, 2_048, 128, 0.0, 11_025.0)[0, 1] == pytest.approx(0.016, abs=5e-4)


def test_mel_spectrogram_and_mfcc_are_the_one_shot_formulas() -> None:
    frames = signal(6_000, rate=22_050)
    size, hop = round(0.025 * 22_050), round(0.010 * 22_050)
    mel = levels(power(frames, 22_050, size, hop, 1_024) @ triangles(22_050, 1_024, np.array(LIBROSA_MEL_40)).T)
    assert np.allclose(features(MelSpectrogram(bands=38), frames, 22_050, [500] * 8), mel, atol=0.02, rtol=0)
    scipy_fft = pytest.importorskip("scipy.fft")
    cepstra = scipy_fft.dct(mel, type=2, norm="ortho")[:, :13]
    assert np.allclose(features(MFCC(bands=38), frames, 22_050, []), cepstra, atol=0.02, rtol=0)
    assert np.allclose(dct_matrix(13, 38), scipy_fft.dct(np.eye(38), type=2, norm="ortho").T[:13], atol=1e-12)


def test_windows_are_told_by_their_times_across_a_gap() -> None:
    node, frames = Spectrogram(window_ms=20, hop_ms=10), signal(500)
    data = [*node.process(Audio(frames, 16_000)), *node.process(Audio(signal(400), 16_000, 10_000))]
    assert [item.value["times_ms"] for item in data] == [[0.0, 10.0], [625.0]]
    assert [(item.at, item.until) for item in data] == [(0.0, 0.02), (0.625, 0.635)]
    assert node.join(data).value["times_ms"] == [0.0, 10.0, 625.0]
    assert np.array_equal(data[0].value["frames"][0], features(Spectrogram(window_ms=20), frames[:320], 16_000, [])[0])


def test_a_long_block_is_told_in_bounded_parts_and_little_is_held() -> None:
    node = Spectrogram()
    data = list(node.process(Audio(np.zeros((16_000 * 20, 1), np.int16), 16_000)))
    assert sum(len(item.value["frames"]) for item in data) == (320_000 - 400) // 160 + 1
    assert max(len(item.value["frames"]) * 257 for item in data) < 65_536
    assert set(data[0].value["frames"][0]) == {-100.0}, "silence must be at the floor"
    assert node.memory_bytes < 400 * 8


@pytest.mark.parametrize(
    ("node", "rate"),
    [(Spectrogram(max_hz=5_000), 8_000), (MelSpectrogram(max_hz=5_000), 8_000), (MFCC(min_hz=4_000), 8_000)],
)
def test_a_rate_without_such_frequencies_is_refused(node: SpectralFeature, rate: int) -> None:
    with pytest.raises(InvalidInput, match="half of"):
        node.process(Audio(signal(10), rate))
    with pytest.raises(InvalidInput, match="16384 at most"):
        Spectrogram(window_ms=500).process(Audio(signal(10), 48_000))
