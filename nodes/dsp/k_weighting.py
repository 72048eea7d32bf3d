"""The K-weighting of ITU-R BS.1770 at any sample rate."""

from __future__ import annotations

from math import pi, tan

import numpy as np

from nodes.dsp.sos import Sections

__all__ = ["k_weighting"]

_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_SHELF_SLOPE = 0.4996667741545416
"""The gain at the shelf's own frequency, as a power of its full gain."""
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773


def k_weighting(sample_rate: int) -> Sections:
    """A high shelf for the head, then a high-pass, shape (2, 6), as `scipy.signal.sosfilt` takes them.

    The analogue filters that the recommendation's coefficients for 48 kHz come of (B. De Man, "Evaluation of
    implementations of the EBU R128 loudness measurement", AES 145, 2018; libebur128 has the same), through the bilinear
    transform at this rate, in Hz; more than 3,364.
    """
    return np.array([_shelf(sample_rate), _high_pass(sample_rate)])


def _shelf(sample_rate: int) -> list[float]:
    k, high = tan(pi * _SHELF_HZ / sample_rate), 10 ** (_SHELF_DB / 20)
    middle = high**_SHELF_SLOPE * k / _SHELF_Q
    scale, poles = _poles(k, _SHELF_Q)
    zeros = [(high + middle + k * k) / scale, 2 * (k * k - high) / scale, (high - middle + k * k) / scale]
    return zeros + poles


def _high_pass(sample_rate: int) -> list[float]:
    _, poles = _poles(tan(pi * _PASS_HZ / sample_rate), _PASS_Q)
    return [1.0, -2.0, 1.0, *poles]


def _poles(k: float, q: float) -> tuple[float, list[float]]:
    """What the denominator of a second-order section is divided by, and what it is then."""
    scale = 1 + k / q + k * k
    return scale, [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale]
