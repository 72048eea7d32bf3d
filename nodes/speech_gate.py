"""SpeechGate: only the speech of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nodes.bases.speech_hold import SpeechHold
from nodes.contract import Audio, Item, Join, Kind, parameter

__all__ = ["SpeechGate"]


@attrs.define
class SpeechGate(Join):
    """Pass the audio of speech segments, at its own positions and bit for bit, and nothing in between.

    Takes audio from one upstream node and VAD's data from one, which may be the same (`forward_audio`). Goes by the
    segments and positions, never by which row they came in: VAD may look at another rate, or at the other end of
    a resampler. A frame passes if it lies within a segment, from `pre_roll_ms` before to `post_roll_ms` after it. In
    silence nothing comes out, so what is downstream has nothing to do; the gaps show in `Audio.start`.

    Audio is held until the data settle what it is (`Data.until`), at most `max_skew_ms` beyond that point; then the
    node fails (`SkewTooGreat`). VAD's own `delay` has to be less. At `finish` what no segment covers is dropped.
    """

    pre_roll_ms: float = parameter(200.0, help="audio to pass before a segment, in ms", at_least=0, at_most=10_000)
    post_roll_ms: float = parameter(0.0, help="audio to pass after a segment, in ms", at_least=0, at_most=10_000)
    max_skew_ms: float = parameter(
        5_000.0, help="how far the data may be behind the audio or before it, in ms", above=0, at_most=600_000
    )
    _hold: SpeechHold = attrs.field(init=False, repr=False)

    takes = Kind.BOTH
    gives = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        self._hold = SpeechHold(self.pre_roll_ms, self.post_roll_ms, self.max_skew_ms)

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Audio]:
        """Pass what is known to be speech, drop what is known to be silence, hold the rest.

        Raises:
          InvalidInput: audio or data come from two nodes, the data have no segments, the audio changes its rate or
            channel count, or a block begins before the end of the last one.
          SkewTooGreat: data or audio are too far behind.
        """
        return self._hold.take(row)

    def finish(self) -> Iterable[Audio]:
        """Pass what segments cover, drop the rest."""
        passed = self._hold.rest()
        self.close()
        return passed

    def close(self) -> None:
        """Let go of what is held."""
        self._hold = SpeechHold(self.pre_roll_ms, self.post_roll_ms, self.max_skew_ms)

    @property
    def delay(self) -> float:
        """The pre-roll, in seconds; what VAD needs to settle a segment is VAD's delay, and comes on top."""
        return self.pre_roll_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """The audio held, and the segments that are not behind it yet."""
        return self._hold.memory_bytes
