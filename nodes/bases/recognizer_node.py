"""What nodes that recognize speech have in common: how they take a stream, and the stretch they listen to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from nodes.bases.frame_filter import require_convertible
from nodes.bases.recognition import Recognition, prepare
from nodes.contract import Audio, Data, Kind, Node
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format
from nodes.dsp.segments import milliseconds
from nodes.libraries.pocketsphinx import SAMPLE_RATE, Task, Word

__all__ = ["RecognizerNode", "placed"]


@attrs.define
class RecognizerNode(Node):
    """A node that lets a recognizer hear unbroken stretches of audio; a subclass says what comes of them."""

    _format: StreamFormat | None = attrs.field(init=False, default=None, repr=False)
    _stop: int = attrs.field(init=False, default=0, repr=False)
    _mean: bytes | None = attrs.field(init=False, default=None, repr=False)
    _stretch: Recognition | None = attrs.field(init=False, default=None, repr=False)

    gives = Kind.DATA
    placement = "thread"
    extra = "asr"

    def __attrs_post_init__(self) -> None:
        prepare(self.task)

    @property
    def task(self) -> Task:
        """What to listen for."""
        raise NotImplementedError

    def hear(self, audio: Audio) -> Iterator[Data]:
        """What comes of a block that fits the stream, is not empty, and follows the last without a gap."""
        raise NotImplementedError

    def end(self) -> Iterator[Data]:
        """What comes of the end of the stretch, if there is one."""
        raise NotImplementedError

    def take(self, audio: Audio) -> list[Data]:
        """Hear a block of shape (n, channels); a gap before it ends the stretch.

        Raises:
          InvalidInput: the rate or channel count is not the stream's, the block begins before the end of the last
            one, holds NaN or infinity, or its rate cannot be converted to 16 kHz.
        """
        if self._format is None:
            require_convertible(audio.sample_rate, SAMPLE_RATE)
        else:
            require_format(audio, self._format)
        require_finite(audio)
        if not len(audio.frames):
            return []
        told: list[Data] = []
        if self._format is not None and not continues(audio, self._stop):
            told += self.end()
        self._format, self._stop = (audio.sample_rate, audio.channels), audio.stop
        return told + list(self.hear(audio))

    def stretch_of(self, audio: Audio) -> Recognition:
        """The stretch that a block belongs to; it may be the first of one."""
        if self._stretch is None:
            self._stretch = Recognition(audio, self.task, self._mean)
        return self._stretch

    def end_stretch(self, stretch: Recognition) -> list[Word]:
        """The last words of the stretch; the next one begins with the mean of this."""
        words = stretch.end()
        self._mean, self._stretch = stretch.mean, None
        return words

    def finish(self) -> Iterable[Data]:
        """Hear what is still held, and give the last words."""
        told = list(self.end())
        self.close()
        return told

    def close(self) -> None:
        """Let go of the stretch and its recognizer."""
        if self._stretch is not None:
            self._stretch.abandon()
        self._format = self._mean = self._stretch = None
        self._stop = 0

    @property
    def memory_bytes(self) -> int:
        """The audio held; not the recognizer, which belongs to the process."""
        return 0 if self._stretch is None else self._stretch.memory_bytes


def placed(word: Word, stretch: Recognition) -> tuple[float, float]:
    """Where a word of a stretch begins and ends, in ms since the session began."""
    return milliseconds(stretch.start_ms + word.start_ms), milliseconds(stretch.start_ms + word.end_ms)
