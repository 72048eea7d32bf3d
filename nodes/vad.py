"""VAD: where there is speech, by WebRTC's detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import webrtcvad

from nodes.bases.speech_detection import Detector, SpeechDetection
from nodes.contract import parameter

__all__ = ["VAD"]

_NATIVE_RATES = (8_000, 16_000, 32_000, 48_000)
_OTHERWISE = 16_000


class _WebRTC:
    """webrtcvad as a `Detector`; it keeps what it knows of the noise over a gap."""

    memory_bytes = 0
    """The library's few hundred bytes are not told by it."""

    def __init__(self, aggressiveness: int, sample_rate: int) -> None:
        self._is_speech = webrtcvad.Vad(aggressiveness).is_speech
        self._sample_rate = sample_rate

    def is_speech(self, frame: bytes) -> bool:
        return bool(self._is_speech(frame, self._sample_rate))

    def skip(self) -> None:
        pass

    def details(self) -> Mapping[str, Any]:
        return {}


@attrs.define
class VAD(SpeechDetection):
    """Find speech with WebRTC's voice activity detector, and smooth its decisions into segments.

    Takes every rate, format and channel count. Input at 8, 16, 32 or 48 kHz is decided on at its own rate, other rates
    are converted to 16 kHz; several channels are averaged. 16-bit mono at those four rates reaches the detector bit
    for bit. Each block, from the first that is not empty on, gives one data item:

    * `decisions`: a "0" or "1" for every detector frame that this block completed; `frames`: how many;
      `speech_ratio`: the share of ones, 0 without any. A part of a frame at the very end, or before a gap, is not
      decided.
    * `segments`: `[[start_ms, end_ms]]`, every segment that was open at some time since the last item. One that is
      still open is told in every item with end null, and once more with its end when it closes.
    * `has_speech`: there are such segments; `is_speech_start`, `is_speech_end`: one opened, one closed.
    * `timestamp_ms`: the position of the block's first frame.

    The item's `until` is the point up to which the segments are final: what lies before it and in no segment is
    silence for good, what lies in one is speech for good. `at` is the `until` of the item before, so the items tile
    the stream. `until` never goes beyond the audio received. A gap counts as silence.

    With `forward_audio` each block is passed on as well, before its data and without delay.
    """

    aggressiveness: int = parameter(2, help="0 finds most speech, 3 is hardest to convince", choices=(0, 1, 2, 3))
    frame_duration_ms: int = parameter(30, help="length of one decision in ms", choices=(10, 20, 30))

    @property
    def frame_ms(self) -> int:
        """The parameter `frame_duration_ms`."""
        return self.frame_duration_ms

    def detector_rate(self, sample_rate: int) -> int:
        """The same, if webrtcvad takes it, else 16 kHz."""
        return sample_rate if sample_rate in _NATIVE_RATES else _OTHERWISE

    def make_detector(self, sample_rate: int) -> Detector:
        """The library's detector."""
        return _WebRTC(self.aggressiveness, sample_rate)
