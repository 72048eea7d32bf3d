"""Levels in decibels relative to full scale, with a floor of -120 dBFS; an amplitude of 1.0 is 0 dBFS."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOOR_DBFS", "amplitude", "amplitude_db", "power", "power_db", "powers_db"]

FLOOR_DBFS = -120.0


def amplitude_db(peak: float) -> float:
    """Level of an amplitude, at least the floor."""
    return max(FLOOR_DBFS, 20.0 * math.log10(peak)) if peak > 0 else FLOOR_DBFS


def power_db(mean_square: float) -> float:
    """Level of a mean square, at least the floor."""
    return max(FLOOR_DBFS, 10.0 * math.log10(mean_square)) if mean_square > 0 else FLOOR_DBFS


def powers_db(mean_squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of mean squares, each at least the floor."""
    levels: NDArray[np.float64] = 10.0 * np.log10(np.maximum(mean_squares, power(FLOOR_DBFS)))
    return levels


def amplitude(level_db: float) -> float:
    """Amplitude of a level."""
    return float(10.0 ** (level_db / 20.0))


def power(level_db: float) -> float:
    """Mean square of a level."""
    return float(10.0 ** (level_db / 10.0))
