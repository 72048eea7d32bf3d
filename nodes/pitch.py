"""Pitch: the fundamental frequency of a voice or an instrument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.contract import Audio, Data, InvalidInput, Kind, Node, parameter
from nodes.framing import MonoWindows, Windows
from nodes.joining import end_to_end
from nodes.speech import milliseconds

__all__ = ["Pitch"]

_FIELDS = ("pitch_hz", "confidence", "times_ms")


@attrs.define
class Pitch(Node):
    """Estimate the fundamental frequency, by YIN (de Cheveigné and Kawahara, JASA 111(4), 2002).

    Steps 1 to 5 of the paper: the difference function over a window of the longest period, through the FFT; its
    cumulative mean normalised form; the first dip below `threshold`; parabolic interpolation. Estimates are made
    every `hop_ms` from where the stream, or a stretch after a gap, began, however it is cut, each from twice the
    longest period. Several channels are averaged. Each block gives, if it completes a window:

    * `pitch_hz`: for each window the frequency, rounded to 0.01, or null where no period is found;
    * `confidence`: 1 minus the height of the dip, 0 to 1, rounded to 0.001; of the lowest dip where there is no pitch;
    * `times_ms`: for each window where it begins.
    """

    min_hz: float = parameter(60.0, help="lowest frequency to look for, in Hz", at_least=20, at_most=5_000)
    max_hz: float = parameter(500.0, help="highest frequency to look for, in Hz", above=20, at_most=10_000)
    hop_ms: float = parameter(10.0, help="from one estimate to the next, in ms", at_least=1, at_most=100)
    threshold: float = parameter(0.15, help="how far from a perfect period a dip may be, 0 to 1", above=0, at_most=1)
    _windows: MonoWindows = attrs.field(init=False, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA

    def __attrs_post_init__(self) -> None:
        if self.max_hz <= self.min_hz:
            raise ValueError(f"max_hz must be above min_hz ({self.min_hz:g}), got {self.max_hz:g}")
        if self.hop_ms > 2000 / self.min_hz:
            raise ValueError(f"hop_ms must be at most twice the longest period, {2000 / self.min_hz:g} ms")
        self._windows = MonoWindows(2000 / self.min_hz, self.hop_ms)

    def process(self, item: Audio) -> Iterable[Data]:
        """Estimate on the windows that one block completes.

        Raises:
          InvalidInput: the rate is below four times `max_hz`, it or the channel count is not the stream's, the block
            goes back, or holds NaN or infinity.
        """
        if item.sample_rate < 4 * self.max_hz:
            raise InvalidInput(f"the sample rate must be four times max_hz, {4 * self.max_hz:g} Hz at least")
        return [self._told(windows) for windows in self._windows.push(item)]

    def _told(self, windows: Windows) -> Data:
        rate = windows.sample_rate
        hop = self._windows.sizes(rate)[1]
        periods, dips = yin(windows.samples, max(2, int(rate / self.max_hz)), self.threshold)
        starts = [windows.position + k * hop for k in range(len(periods))]
        value: dict[str, Any] = {
            "pitch_hz": [round(rate / period, 2) if period else None for period in periods.tolist()],
            "confidence": np.round(np.clip(1.0 - dips, 0.0, 1.0), 3).tolist(),
            "times_ms": [milliseconds(start * 1000 / rate) for start in starts],
        }
        return Data(value, starts[0] / rate, (starts[-1] + hop) / rate)

    def finish(self) -> Iterable[Data]:
        """Drop what is less than a window."""
        self._windows.clear()
        return ()

    def close(self) -> None:
        """Let go of what is held."""
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """All estimates, one after another."""
        return end_to_end(items, _FIELDS)

    @property
    def delay(self) -> float:
        """Twice the longest period, in seconds."""
        return 2 / self.min_hz

    @property
    def memory_bytes(self) -> int:
        """The frames that wait for a whole window."""
        return self._windows.memory_bytes


def yin(
    windows: NDArray[np.float64], shortest: int, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The period of each window, in frames, 0 where there is none, and the height of its dip.

    Args:
      windows: shape (count, size); periods of up to size / 2 frames are found.
      shortest: shortest period.
      threshold: of the dip.
    """
    normalised = _normalised(_difference(windows))
    inside = normalised[:, shortest:-1]
    dips = (inside < threshold) & (inside <= normalised[:, shortest + 1 :])  # the first is the floor of the first dip
    found, rows = dips.any(axis=1), np.arange(len(windows))
    places = shortest + np.where(found, dips.argmax(axis=1), inside.argmin(axis=1))
    before, here, after = (normalised[rows, places + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend > 0)
    return np.where(found, places + np.clip(shift, -0.5, 0.5), 0.0), here


def _difference(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of (x[j] - x[j + lag])² over half a window, for each lag up to half a window."""
    size = windows.shape[1]
    longest = size // 2
    width = size - longest
    fft_size = 1 << (size - 1).bit_length()
    spectra = np.fft.rfft(windows, fft_size)
    halves = np.fft.rfft(windows[:, :width], fft_size)
    products = np.fft.irfft(spectra * halves.conj(), fft_size)[:, : longest + 1]
    energies = np.pad(np.cumsum(windows**2, axis=1), ((0, 0), (1, 0)))
    moved = energies[:, width : width + longest + 1] - energies[:, : longest + 1]
    difference: NDArray[np.float64] = np.maximum(moved[:, :1] + moved - 2 * products, 0.0)
    return difference


def _normalised(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference over its mean at shorter lags; 1 at lag 0, and where there is only silence."""
    sums = np.cumsum(difference[:, 1:], axis=1)
    lags = np.arange(1, difference.shape[1])
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:] * lags, sums, out=normalised[:, 1:], where=sums > 0)
    return normalised
