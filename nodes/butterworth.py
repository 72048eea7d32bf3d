"""HighPass, LowPass and BandPass: Butterworth filters."""

from __future__ import annotations

from math import pi, sin
from typing import Any

import attrs

from nodes.bases.filter_node import Filter, SectionsNode
from nodes.contract import InvalidInput, parameter
from nodes.dsp.sos import SectionsFilter, scipy_signal

__all__ = ["BandPass", "HighPass", "LowPass", "butterworth"]


def butterworth(order: int, kind: str, cutoff_hz: Any, sample_rate: int, channels: int) -> SectionsFilter:
    """Design a Butterworth filter, at rest.

    Args:
      order: Order of the filter; a band-pass has twice as many poles.
      kind: "highpass", "lowpass" or "bandpass".
      cutoff_hz: Frequency of half the power; for a band-pass the pair of these.
      sample_rate: Rate of the audio in Hz.
      channels: Number of channels.

    Raises:
      InvalidInput: a frequency is not below half the sample rate.
    """
    highest = max(cutoff_hz) if kind == "bandpass" else cutoff_hz
    if highest * 2 >= sample_rate:
        raise InvalidInput(f"{highest:g} Hz is not below half the sample rate, {sample_rate / 2:g} Hz")
    sections = scipy_signal().butter(order, cutoff_hz, kind, fs=sample_rate, output="sos")
    return SectionsFilter(sections, channels)


def _group_delay(order: int, bandwidth_hz: float) -> float:
    """Return the group delay of an analogue low-pass at 0 Hz, in seconds: the sum over its poles in closed form."""
    return 1 / (2 * pi * bandwidth_hz * sin(pi / (2 * order)))


@attrs.define
class HighPass(SectionsNode):
    """Remove frequencies below a cutoff, such as rumble and handling noise.

    A Butterworth filter (S. Butterworth, 1930) of second-order sections, designed and run by SciPy: half the power at
    `cutoff_hz`, then 6 dB per octave and order below it. Any format, any channel count, and any rate above
    2 · cutoff_hz; each block keeps its length. The filter begins at rest. Well above the cutoff there is no delay.
    """

    cutoff_hz: float = parameter(80.0, help="frequency of half the power, in Hz", at_least=0.1, at_most=384_000)
    order: int = parameter(4, help="order of the filter: each adds 6 dB per octave", at_least=1, at_most=12)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        return butterworth(self.order, "highpass", self.cutoff_hz, sample_rate, channels)


@attrs.define
class LowPass(SectionsNode):
    """Remove frequencies above a cutoff, such as hiss.

    A Butterworth filter (S. Butterworth, 1930) of second-order sections, designed and run by SciPy: half the power at
    `cutoff_hz`, then 6 dB per octave and order above it. Any format, any channel count, and any rate above
    2 · cutoff_hz; each block keeps its length. The filter begins at rest. `delay` is the group delay at low
    frequencies, by the closed formula; positions are not shifted.
    """

    cutoff_hz: float = parameter(help="frequency of half the power, in Hz", at_least=0.1, at_most=384_000)
    order: int = parameter(4, help="order of the filter: each adds 6 dB per octave", at_least=1, at_most=12)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        return butterworth(self.order, "lowpass", self.cutoff_hz, sample_rate, channels)

    @property
    def delay(self) -> float:
        """Group delay at low frequencies, in seconds."""
        return _group_delay(self.order, self.cutoff_hz)


@attrs.define
class BandPass(SectionsNode):
    """Keep only the frequencies between two cutoffs, such as the telephone band.

    A Butterworth filter (S. Butterworth, 1930) of second-order sections, designed and run by SciPy: half the power at
    `low_hz` and `high_hz`, then 6 dB per octave and order beyond them. Any format, any channel count, and any rate
    above 2 · high_hz; each block keeps its length. The filter begins at rest. `delay` is the group delay of the
    analogue filter in the middle of the band, by the closed formula; positions are not shifted.
    """

    low_hz: float = parameter(300.0, help="lower frequency of half the power, in Hz", at_least=0.1, at_most=384_000)
    high_hz: float = parameter(3_400.0, help="upper frequency of half the power, in Hz", at_least=0.1, at_most=384_000)
    order: int = parameter(
        4, help="order of the filter: each adds 6 dB per octave, on either side", at_least=1, at_most=12
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz must be below high_hz ({self.high_hz:g}), got {self.low_hz:g}")

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        return butterworth(self.order, "bandpass", (self.low_hz, self.high_hz), sample_rate, channels)

    @property
    def delay(self) -> float:
        """Group delay in the middle of the band, in seconds."""
        return 2 * _group_delay(self.order, self.high_hz - self.low_hz)
