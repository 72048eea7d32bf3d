"""Base class of SpeechToText and KeywordSpotter: checks the stream and feeds it to a recognizer."""

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
    """A node that feeds unbroken stretches of audio to a recognizer; a subclass turns the words into data."""

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
        """Vocabulary to recognize."""
        raise NotImplementedError

    def hear(self, audio: Audio) -> Iterator[Data]:
        """Recognize a checked, non-empty block, which continues the stretch or begins one; yield the data."""
        raise NotImplementedError

    def end(self) -> Iterator[Data]:
        """End the stretch, if there is one, and yield its last data."""
        raise NotImplementedError

    def take(self, audio: Audio) -> list[Data]:
        """Recognize a block of shape (n, channels); a gap before it ends the stretch.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, the block begins before the end of the
            previous one, or holds NaN or infinity, or its rate cannot be converted to 16 kHz.
        """
        if self._format is None:
            require_convertible(audio.sample_rate, SAMPLE_RATE)
        else:
            require_format(audio, self._format)
        require_finite(audio)
        if not len(audio.frames):
            return []
        items: list[Data] = []
        if self._format is not None and not continues(audio, self._stop):
            items += self.end()
        self._format, self._stop = (audio.sample_rate, audio.channels), audio.stop
        return items + list(self.hear(audio))

    def stretch_of(self, audio: Audio) -> Recognition:
        """Return the stretch that a block belongs to; begin one if there is none."""
        if self._stretch is None:
            self._stretch = Recognition(audio, self.task, self._mean)
        return self._stretch

    def end_stretch(self, stretch: Recognition) -> list[Word]:
        """End the stretch and return its last words; the next stretch begins with its cepstral mean."""
        words = stretch.end()
        self._mean, self._stretch = stretch.mean, None
        return words

    def finish(self) -> Iterable[Data]:
        """Recognize the held audio, and yield the last data."""
        items = list(self.end())
        self.close()
        return items

    def close(self) -> None:
        """Discard the stretch and its recognizer."""
        if self._stretch is not None:
            self._stretch.abandon()
        self._format = self._mean = self._stretch = None
        self._stop = 0

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held audio, without the recognizer, which belongs to the process."""
        return 0 if self._stretch is None else self._stretch.memory_bytes


def placed(word: Word, stretch: Recognition) -> tuple[float, float]:
    """Return the start and end of a word of a stretch, in ms since the session began."""
    return milliseconds(stretch.start_ms + word.start_ms), milliseconds(stretch.start_ms + word.end_ms)
