"""VAD: speech detection by WebRTC's detector."""

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
    """webrtcvad as a `Detector`; it keeps its estimate of the noise over a gap."""

    memory_bytes = 0
    """The library uses a few hundred bytes, and does not report them."""

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

    Takes any rate, format and channel count. Audio at 8, 16, 32 or 48 kHz is analysed at its own rate; other rates are
    converted to 16 kHz. Several channels are averaged. 16-bit mono at those four rates reaches the detector bit for
    bit. From the first block that is not empty, each block yields one data item:

    * `decisions`: a "0" or "1" for every detector frame that this block completed; `frames`: their number;
      `speech_ratio`: the share of ones, 0 without any. An incomplete frame at the very end, or before a gap, is not
      decided.
    * `segments`: `[[start_ms, end_ms]]`, every segment that was open at some time since the last item. An open segment
      is reported in every item with end null, and once more with its end when it closes.
    * `has_speech`: there are such segments; `is_speech_start`, `is_speech_end`: one opened, one closed.
    * `timestamp_ms`: the position of the block's first frame.

    The segments are final up to the item's `until`: audio before it is speech for good inside a segment, and silence
    for good outside. `at` is the `until` of the item before, so that the items tile the stream. `until` never exceeds
    the audio received. A gap counts as silence.

    With `forward_audio` each block is passed on as well, before its data and without delay.
    """

    aggressiveness: int = parameter(2, help="0 finds most speech, 3 is the strictest", choices=(0, 1, 2, 3))
    frame_duration_ms: int = parameter(30, help="length of one decision in ms", choices=(10, 20, 30))

    @property
    def frame_ms(self) -> int:
        """Value of the parameter `frame_duration_ms`."""
        return self.frame_duration_ms

    def detector_rate(self, sample_rate: int) -> int:
        """Return the same rate if webrtcvad supports it, else 16 kHz."""
        return sample_rate if sample_rate in _NATIVE_RATES else _OTHERWISE

    def make_detector(self, sample_rate: int) -> Detector:
        return _WebRTC(self.aggressiveness, sample_rate)
