"""The K-weighting of ITU-R BS.1770 at any sample rate."""

from __future__ import annotations

from math import pi, tan

import numpy as np

from nodes.dsp.sos import Sections

__all__ = ["k_weighting"]

_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_SHELF_SLOPE = 0.4996667741545416
"""Exponent that turns the shelf's full gain into its gain at `_SHELF_HZ`."""
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773


def k_weighting(sample_rate: int) -> Sections:
    """Return a high shelf for the head, then a high-pass, shape (2, 6), as `scipy.signal.sosfilt` takes them.

    The bilinear transform is applied to the analogue filters that underlie the recommendation's coefficients for 48 kHz
    (B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018; libebur128 has the
    same).

    Args:
      sample_rate: In Hz; more than 3,364.
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
    """Return the leading coefficient of a second-order section's denominator, and the denominator divided by it."""
    scale = 1 + k / q + k * k
    return scale, [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale]
