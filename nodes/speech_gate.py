"""SpeechGate: only the speech of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nodes.bases.speech_hold import SpeechHold
from nodes.contract import Audio, Item, Join, Kind, parameter

__all__ = ["SpeechGate"]


@attrs.define
class SpeechGate(Join):
    """Pass only the audio of speech segments, bit for bit and at its own positions.

    Takes audio from one upstream node and the data of a VAD from one; they may be the same (`forward_audio`). Audio and
    segments are aligned by position, never by row, so the VAD may work at another rate, or at the other end of a
    resampler. A frame passes if it lies between `pre_roll_ms` before and `post_roll_ms` after a segment. In silence
    nothing is emitted, and the nodes downstream are skipped; the gaps show in `Audio.start`.

    Audio is held until the data settle it (`Data.until`). The node fails (`SkewTooGreat`) if audio and data are more
    than `max_skew_ms` apart, so the `delay` of the VAD must be less. At the end, audio outside segments is discarded.
    """

    pre_roll_ms: float = parameter(200.0, help="audio to pass before a segment, in ms", at_least=0, at_most=10_000)
    post_roll_ms: float = parameter(0.0, help="audio to pass after a segment, in ms", at_least=0, at_most=10_000)
    max_skew_ms: float = parameter(
        5_000.0, help="greatest allowed skew between audio and data, in ms", above=0, at_most=600_000
    )
    _hold: SpeechHold = attrs.field(init=False, repr=False)

    takes = Kind.BOTH
    gives = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        self._hold = SpeechHold(self.pre_roll_ms, self.post_roll_ms, self.max_skew_ms)

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Audio]:
        """Pass audio that is known to be speech, discard known silence, and hold the rest.

        Raises:
          InvalidInput: audio or data come from two nodes, the data have no segments, the audio changes its sample rate
            or channel count, or a block begins before the end of the previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        return self._hold.take(row)

    def finish(self) -> Iterable[Audio]:
        """Pass audio that segments cover, and discard the rest."""
        passed = self._hold.rest()
        self.close()
        return passed

    def close(self) -> None:
        self._hold = SpeechHold(self.pre_roll_ms, self.post_roll_ms, self.max_skew_ms)

    @property
    def delay(self) -> float:
        """Pre-roll, in seconds. The time that the VAD needs to settle a segment is the VAD's delay; it comes on top."""
        return self.pre_roll_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held audio, and of the segments that may still matter."""
        return self._hold.memory_bytes
