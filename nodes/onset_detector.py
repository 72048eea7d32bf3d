"""OnsetDetector: beginnings of sounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.rows import end_to_end
from nodes.contract import Audio, Data, Kind, Node, parameter
from nodes.dsp.segments import milliseconds
from nodes.dsp.spectra import Spectra, mel_filters, power_spectra
from nodes.dsp.windows import MonoWindows, Windows

__all__ = ["OnsetDetector"]

_WINDOW_MS = 46.0
_HOP_MS = 10.0
_BANDS = 40
_COMPRESSION = 1_000.0

_AROUND = 3
"""Hops on either side within which the flux of an onset is the greatest."""

_BEFORE = 10
"""Hops before an onset that, with `_AROUND` after it, form the mean to which its flux is compared."""

_ENTERED = 0.75
"""Position of a sound's beginning in the window in which it raises the flux most; found by trial (see the tests)."""


@attrs.define
class _Picker:
    """Finds peaks in the flux of one unbroken stretch.

    Attributes:
      start_ms: Beginning of the first window.
      hop_ms: Exact time from one window to the next.
      next_window: Number of the next window to decide on.
      flux: Flux of the `_BEFORE` windows before that one (0 before the first), and of all windows from there on.
      last_ms: Beginning of the window of the last onset.
    """

    start_ms: float
    hop_ms: float
    threshold: float
    min_interval_ms: float
    next_window: int = 0
    flux: NDArray[np.float64] = attrs.field(factory=lambda: np.zeros(_BEFORE))
    last_ms: float | None = None

    def pick(self, more: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Return time in ms and strength of the onsets among the windows that have `_AROUND` others after them."""
        flux = np.concatenate((self.flux, more))
        count = max(0, len(flux) - _BEFORE - _AROUND)
        self.flux, first = flux[count:], self.next_window
        self.next_window += count
        if not count:
            return []
        windows_of = np.lib.stride_tricks.sliding_window_view
        here = flux[_BEFORE : _BEFORE + count]
        highest = windows_of(flux[_BEFORE - _AROUND :], 2 * _AROUND + 1).max(axis=1)
        strengths = here - windows_of(flux, _BEFORE + 1 + _AROUND).mean(axis=1)
        places = np.flatnonzero((here == highest) & (strengths >= self.threshold))
        return [onset for place in places.tolist() for onset in self._onset(first + place, float(strengths[place]))]

    def _onset(self, window: int, strength: float) -> list[tuple[float, float]]:
        at_ms = self.start_ms + window * self.hop_ms
        if self.last_ms is not None and at_ms - self.last_ms < self.min_interval_ms:
            return []
        self.last_ms = at_ms
        return [(at_ms + _ENTERED * _WINDOW_MS, strength)]


@attrs.define
class OnsetDetector(Node):
    """Detect the beginnings of sounds: spectral flux against an adaptive threshold.

    Method: Böck, Krebs and Schedl, "Evaluating the online capabilities of onset detection methods" (ISMIR 2012). The
    flux is the rise, from one window to the next, of a logarithmic spectrum, log10(1 + 1000 · magnitude), here the mean
    of 40 mel bands, in windows of 46 ms every 10 ms. A window is an onset if its flux is the greatest within 30 ms on
    either side and exceeds the mean from 100 ms before to 30 ms after it by `threshold`, and if `min_interval_ms` have
    passed since the last onset. A sound that is present when the stream, or a stretch after a gap, begins is not an
    onset. Several channels are averaged. A block that settles onsets yields:

    * `onsets_ms`: their times since the session began, accurate to about the hop of 10 ms;
    * `strengths`: excess of the flux of each over the mean, rounded to 0.001.
    """

    threshold: float = parameter(0.05, help="least strength of an onset; a lower value finds more", above=0, at_most=10)
    min_interval_ms: float = parameter(50.0, help="least time between two onsets, in ms", at_least=0, at_most=60_000)
    _windows: MonoWindows = attrs.field(init=False, repr=False)
    _levels: Spectra | None = attrs.field(init=False, default=None, repr=False)
    _picker: _Picker | None = attrs.field(init=False, default=None, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA

    def __attrs_post_init__(self) -> None:
        self._windows = MonoWindows(_WINDOW_MS, _HOP_MS)

    def process(self, item: Audio) -> Iterable[Data]:
        """Report the onsets that one block settles.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or the block begins before the end of the
            previous one, or holds NaN or infinity.
        """
        onsets: list[tuple[float, float]] = []
        for windows in self._windows.push(item):
            if windows.is_fresh or self._picker is None:
                onsets += self._settle()
                frame_ms = 1000 / windows.sample_rate
                hop_ms = self._windows.sizes(windows.sample_rate)[1] * frame_ms
                self._picker = _Picker(windows.position * frame_ms, hop_ms, self.threshold, self.min_interval_ms)
            onsets += self._picker.pick(self._flux(windows))
        return _as_data(onsets)

    def _flux(self, windows: Windows) -> NDArray[np.float64]:
        """Compute the mean rise of the bands at each window; 0 at the very first."""
        size = windows.samples.shape[1]
        power = power_spectra(windows.samples) * (2.0 / size) ** 2
        fft_size = 2 * (power.shape[1] - 1)
        filters = mel_filters(windows.sample_rate, fft_size, _BANDS, 0.0, windows.sample_rate / 2)
        bands = power @ filters.T * (windows.sample_rate / fft_size)  # means, because each filter has area 1 in Hz
        levels = np.log10(1.0 + _COMPRESSION * np.sqrt(bands))
        before = levels[:1] if self._levels is None else self._levels
        self._levels = levels[-1:]
        rises: NDArray[np.float64] = np.maximum(0.0, np.diff(levels, axis=0, prepend=before)).mean(axis=1)
        return rises

    def _settle(self) -> list[tuple[float, float]]:
        """Decide on the last windows of a stretch, as if silence followed."""
        picker, self._picker, self._levels = self._picker, None, None
        return [] if picker is None else picker.pick(np.zeros(_AROUND))

    def finish(self) -> Iterable[Data]:
        """Report the onsets that were not settled yet."""
        onsets = self._settle()
        self._windows.clear()
        return _as_data(onsets)

    def close(self) -> None:
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with all onsets."""
        return end_to_end(items, ("onsets_ms", "strengths"))

    @property
    def delay(self) -> float:
        """Time from an onset until it is settled, in seconds."""
        return ((1 - _ENTERED) * _WINDOW_MS + (_AROUND + 1) * _HOP_MS) / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole window."""
        return self._windows.memory_bytes


def _as_data(onsets: Sequence[tuple[float, float]]) -> list[Data]:
    if not onsets:
        return []
    value = {
        "onsets_ms": [milliseconds(at_ms) for at_ms, _ in onsets],
        "strengths": [round(strength, 3) for _, strength in onsets],
    }
    return [Data(value, onsets[0][0] / 1000, onsets[-1][0] / 1000)]
