"""SpeechSegmenter: whole utterances from a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
import numpy as np

from nodes.bases.speech_hold import SpeechHold
from nodes.contract import Audio, Data, Item, Join, Kind, from_float32, parameter
from nodes.dsp.blocks import split
from nodes.dsp.segments import milliseconds

__all__ = ["SpeechSegmenter"]


@attrs.define
class _Utterance:
    """An utterance that continues: its range in frames, and its audio, if that is held."""

    sample_rate: int
    start: int
    stop: int
    held: list[Audio] = attrs.field(factory=list)

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Beginning and end, in ms since the session began."""
        return milliseconds(self.start * 1000 / self.sample_rate), milliseconds(self.stop * 1000 / self.sample_rate)


@attrs.define
class SpeechSegmenter(Join):
    """Emit each complete utterance as one block of audio, preceded by a data item with its times.

    With `whole` false, emit its audio as soon as it is known to be speech, and its times as data after it: for nodes
    with much work, such as `SpeechToText`, and for low latency.

    Takes audio from one upstream node and the data of `VAD` or `SileroVAD` from one; they may be the same
    (`forward_audio`). Audio and segments are aligned by position, as in `SpeechGate`. An utterance is a speech segment,
    from `pre_roll_ms` before to `post_roll_ms` after it. Segments that touch or overlap in this way are one utterance,
    and a gap in the audio separates two. Audio keeps its position and samples, bit for bit. An utterance longer than
    `max_utterance_ms` is cut there, and continues as another. The data:

    * `utterances`: `start_ms`, `end_ms` and `duration_ms` of each, and `continues`: true if it was cut;
    * `segments`: the same as `[start_ms, end_ms]`, for nodes that take VAD's data, such as `SpeechToText`.

    The node holds the current utterance, if `whole`, and audio until the data settle it: at most `max_skew_ms` of it,
    or the node fails (`SkewTooGreat`). At the end, audio that no segment covers is discarded.
    """

    pre_roll_ms: float = parameter(200.0, help="audio before a segment, in ms", at_least=0, at_most=10_000)
    post_roll_ms: float = parameter(100.0, help="audio after a segment, in ms", at_least=0, at_most=10_000)
    max_utterance_ms: float = parameter(
        15_000.0, help="length at which an utterance is cut, in ms", at_least=100, at_most=600_000
    )
    whole: bool = parameter(True, help="hold an utterance until it is complete, and emit it as one block")
    max_skew_ms: float = parameter(
        5_000.0, help="greatest allowed skew between audio and data, in ms", above=0, at_most=600_000
    )
    _hold: SpeechHold = attrs.field(init=False, repr=False)
    _utterance: _Utterance | None = attrs.field(init=False, default=None, repr=False)

    takes = Kind.BOTH
    gives = Kind.BOTH

    def __attrs_post_init__(self) -> None:
        self.close()

    def process(self, row: Mapping[str, Sequence[Item]]) -> Iterable[Item]:
        """Emit the utterances that a row completes, in the order of positions; unless `whole`, also audio of the next.

        Raises:
          InvalidInput: audio or data come from two nodes, the data have no segments, the audio changes its sample rate
            or channel count, or a block begins before the end of the previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        given = [item for block in self._hold.take(row) for item in self._add(block)]
        if self._utterance and self._hold.decided > self._utterance.stop:
            given.extend(self._end(self._utterance))
        return given

    def _add(self, block: Audio) -> Iterator[Item]:
        """Add a block of speech to the utterance, or begin a new one with it."""
        if self._utterance and block.start != self._utterance.stop:
            yield from self._end(self._utterance)
        while len(block.frames):
            utterance = self._utterance = self._utterance or _Utterance(block.sample_rate, block.start, block.start)
            limit = utterance.start + round(self.max_utterance_ms * utterance.sample_rate / 1000)
            if block.start == limit:
                yield from self._end(utterance, continues=True)
                continue
            head, block = split(block, limit)
            utterance.stop = head.stop
            if self.whole:
                utterance.held.append(head)
            else:
                yield head

    def _end(self, utterance: _Utterance, *, continues: bool = False) -> Iterator[Item]:
        self._utterance = None
        start_ms, end_ms = utterance.milliseconds
        about = {
            "start_ms": start_ms,
            "end_ms": end_ms,
            "duration_ms": milliseconds(end_ms - start_ms),
            "continues": continues,
        }
        value = {"utterances": [about], "segments": [[start_ms, end_ms]]}
        yield Data(value, start_ms / 1000, end_ms / 1000)
        if self.whole:
            yield _joined(utterance.held)

    def finish(self) -> Iterable[Item]:
        """Emit the utterances that segments cover, and discard the rest."""
        given = [item for block in self._hold.rest() for item in self._add(block)]
        if self._utterance:
            given.extend(self._end(self._utterance))
        self.close()
        return given

    def close(self) -> None:
        self._hold = SpeechHold(self.pre_roll_ms, self.post_roll_ms, self.max_skew_ms)
        self._utterance = None

    @property
    def delay(self) -> float:
        """Pre-roll plus, if `whole`, the longest utterance, in seconds; the delay of the VAD comes on top."""
        return (self.pre_roll_ms + (self.max_utterance_ms if self.whole else 0)) / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the current utterance, the held audio, and the segments that may still matter."""
        held = self._utterance.held if self._utterance else ()
        return sum(block.frames.nbytes for block in held) + self._hold.memory_bytes

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with all utterances."""
        value = {key: [each for item in items for each in item.value[key]] for key in ("utterances", "segments")}
        return Data(value, items[0].at, items[-1].until)


def _joined(blocks: Sequence[Audio]) -> Audio:
    """Join contiguous blocks into one, in the sample format of the first."""
    first = blocks[0]
    frames = [
        block.frames
        if block.sample_format == first.sample_format
        else from_float32(block.as_float32(), first.sample_format)
        for block in blocks
    ]
    return Audio(np.concatenate(frames), first.sample_rate, first.start)
