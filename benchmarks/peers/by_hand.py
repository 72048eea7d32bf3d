"""The measured work, written by hand without an engine: NumPy, libsamplerate and webrtcvad, nothing else.

All servers except Headrace's own do this with a chunk. It is the least that answers the same question: decisions and
level, no segments, no figures per node, no limits. Headrace's nodes do more, so this favours the peers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import samplerate
import webrtcvad

__all__ = ["Resampler", "VoiceActivity", "level"]

_FULL_SCALE = 32768.0
_FLOOR_DBFS = -120.0
_FRAME_MS = 30
_AGGRESSIVENESS = 2


class Resampler:
    """Resampler from 48 kHz to 16 kHz, mono i16."""

    def __init__(self) -> None:
        self._resampler = samplerate.Resampler("sinc_fastest", 1)

    def convert(self, samples: bytes) -> npt.NDArray[np.int16]:
        """Resample these samples; the filter holds back about a millisecond."""
        frames = np.frombuffer(samples, np.int16) * np.float32(1 / _FULL_SCALE)
        scaled = self._resampler.process(frames, 1 / 3) * np.float32(_FULL_SCALE)
        np.rint(scaled, scaled).clip(-32768, 32767, scaled)
        whole: npt.NDArray[np.int16] = scaled.astype(np.int16)
        return whole


class VoiceActivity:
    """Voice activity detector: webrtcvad on mono i16 at 16 kHz, in pieces of any length."""

    def __init__(self) -> None:
        self._is_speech: Callable[[bytes, int], bool] = webrtcvad.Vad(_AGGRESSIVENESS).is_speech
        self._frame_bytes = 16 * _FRAME_MS * 2
        self._pending = b""

    def hear(self, samples: bytes) -> str:
        """Return a "0" or "1" for each frame of 30 ms that these samples complete."""
        pending, size = self._pending + samples, self._frame_bytes
        whole = len(pending) - len(pending) % size
        self._pending = pending[whole:]
        return "".join("1" if self._is_speech(pending[at : at + size], 16_000) else "0" for at in range(0, whole, size))


def level(samples: npt.NDArray[np.int16]) -> dict[str, float]:
    """Return the number of frames, their RMS and their peak."""
    if not len(samples):
        return {"frames": 0, "rms_dbfs": _FLOOR_DBFS, "peak_dbfs": _FLOOR_DBFS}
    wide = samples.astype(np.float64)
    rms, peak = math.sqrt(float(wide.dot(wide)) / len(wide)), float(max(wide.max(), -wide.min()))
    return {"frames": len(samples), "rms_dbfs": _decibels(rms), "peak_dbfs": _decibels(peak)}


def _decibels(amplitude: float) -> float:
    return max(_FLOOR_DBFS, 20 * math.log10(amplitude / _FULL_SCALE)) if amplitude else _FLOOR_DBFS
