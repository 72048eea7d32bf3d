"""DCBlock: removal of a constant offset."""

from __future__ import annotations

import attrs

from nodes.bases.filter_node import Filter, SectionsNode
from nodes.butterworth import butterworth
from nodes.contract import parameter

__all__ = ["DCBlock"]


@attrs.define
class DCBlock(SectionsNode):
    """Remove a constant offset and keep audible frequencies.

    The one-pole, one-zero high-pass y[n] = g · (x[n] - x[n-1]) + p · y[n-1] with g = (1 + p) / 2 (J. O. Smith,
    "Introduction to Digital Filters", DC blocker), its pole by the bilinear transform, run by SciPy.
    Any format, any channel count, and any rate above 2 · cutoff_hz; each block keeps its length, without delay.
    An offset that is there from the first frame decays with a time constant of 1 / (2π · cutoff_hz), 32 ms at 5 Hz.
    """

    cutoff_hz: float = parameter(5.0, help="frequency of half the power, in Hz", at_least=0.1, at_most=384_000)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        return butterworth(1, "highpass", self.cutoff_hz, sample_rate, channels)
