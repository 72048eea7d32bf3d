"""RNNoise's C library, called without the Python package that brings it."""

from __future__ import annotations

import ctypes
import functools
import sys

import numpy as np
from numpy.typing import NDArray

from nodes.items import Float32
from nodes.libraries.extras import package_folder

__all__ = ["RNNoise", "load_rnnoise"]

_LIBRARIES = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}
_FULL_SCALE = np.float32(32768.0)


@functools.cache
def load_rnnoise() -> ctypes.CDLL:
    """Load the library from the wheel of pyrnnoise, without importing it, which would import matplotlib and FFmpeg.

    Raises:
      ValueError: pyrnnoise is not installed, or contains no library for this system.
    """
    path = package_folder("pyrnnoise", "denoise") / _LIBRARIES.get(sys.platform, "librnnoise.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as unusable:
        raise ValueError(f"cannot load RNNoise: {unusable}") from unusable
    library.rnnoise_init.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.rnnoise_process_frame.restype = ctypes.c_float
    return library


class RNNoise:
    """The `FrameProcessor` of RNNoise: frames of 10 ms at 48 kHz, each channel processed separately.

    Its state is in NumPy's memory, so there is nothing to free.
    """

    sample_rate = 48_000
    frame_length = 480
    delay_frames = 960
    """Half of the delay is the overlap of the windows, the other half a look-ahead of one frame."""

    def __init__(self, channels: int) -> None:
        library = load_rnnoise()
        self._process_frame = library.rnnoise_process_frame
        self._states: list[NDArray[np.uint8]] = []
        for _ in range(channels):
            state = np.zeros(library.rnnoise_get_size(), np.uint8)
            library.rnnoise_init(state.ctypes.data, None)
            self._states.append(state)

    def process(self, frame: Float32) -> Float32:
        """Denoise one frame, shape (480, channels); the library works on samples in the range of 16 bits."""
        planar = np.clip(np.ascontiguousarray(frame.T), -1.0, 1.0)
        planar *= _FULL_SCALE
        for channel, state in zip(planar, self._states, strict=True):
            at = channel.ctypes.data
            self._process_frame(state.ctypes.data, at, at)
        planar /= _FULL_SCALE
        return planar.T

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the states of all channels."""
        return sum(state.nbytes for state in self._states)
