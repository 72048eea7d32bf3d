"""A stretch of audio on its way through a recognizer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import attrs

from nodes.contract import Audio
from nodes.dsp.speech_frames import SpeechFrames
from nodes.libraries.pocketsphinx import RECOGNIZERS, SAMPLE_RATE, Recognizer, Task, Word

__all__ = ["PRIMING_MS", "SLICE_MS", "Recognition", "prepare"]

SLICE_MS = 100
"""Audio goes to the recognizer in slices of this length, so that the words do not depend on the blocks it comes in."""

PRIMING_MS = 1_000
"""How much audio the first cepstral mean is taken of."""

_CATCH_UP = 2
"""Slices that are heard for each that comes, while some are held back: so no short block has much to do."""


def prepare(task: Task) -> None:
    """Load what the first stretch of this process will need."""
    RECOGNIZERS.prepare(task)


class Recognition:
    """Feeds a recognizer with a stretch of audio, and tells the words with their places in the stretch.

    A recognizer subtracts the cepstral mean of what it has heard, to be independent of voice and microphone. Where
    nothing was heard yet, the first second is held back until it is complete, and its own mean is taken; then the
    recognizer catches up.

    Attributes:
      heard_ms: How much of the stretch the recognizer has heard.
      mean: The cepstral mean, for the next stretch of the same voice; None before there is one.
    """

    def __init__(self, first: Audio, task: Task, mean: bytes | None) -> None:
        self.heard_ms = 0
        self.mean = mean
        self._task = task
        self._frames = SpeechFrames(first, SAMPLE_RATE, SAMPLE_RATE * SLICE_MS // 1000)
        self._recognizer: Recognizer | None = None
        self._begun_ms = 0
        self._held: deque[bytes] = deque()

    @property
    def start_ms(self) -> float:
        """Where the stretch begins, in the session."""
        return self._frames.start_ms

    @property
    def n_frames(self) -> int:
        """How many frames were pushed, at the rate that they come in."""
        return self._frames.stop - self._frames.start

    @property
    def stop_ms(self) -> float:
        """Where what was pushed ends."""
        return self._frames.stop_ms

    def reaches(self, place_ms: float) -> bool:
        """Whether what was pushed goes up to here; up to the frame before will do, since places are rounded."""
        return round(place_ms * self._frames.source_rate / 1000) <= self._frames.stop + 1

    def push(self, audio: Audio) -> Iterator[None]:
        """Let the recognizer hear a block, and stop after every slice."""
        for piece in self._frames.push(audio):
            yield from self._hear(piece)

    def _hear(self, piece: bytes) -> Iterator[None]:
        self._held.append(piece)
        self._borrow()  # it may have to be loaded, which is enough for one block
        if self.mean is not None or len(self._held) == PRIMING_MS // SLICE_MS:
            yield from self._release(_CATCH_UP)

    def _borrow(self) -> Recognizer:
        if self._recognizer is None:
            self._recognizer = RECOGNIZERS.borrow(self._task)
        return self._recognizer

    def _release(self, most: int) -> Iterator[None]:
        recognizer = self._borrow()
        if not self.heard_ms:
            self.mean = self.mean or recognizer.mean_of(b"".join(self._held))
            recognizer.begin(self.mean)
        for _ in range(min(most, len(self._held))):
            recognizer.feed(self._held.popleft())
            self.heard_ms += SLICE_MS
            yield

    def words(self) -> list[Word]:
        """What was understood since the beginning, or since `restart`; the last of it may still change."""
        return list(self._placed(self._recognizer.words())) if self._recognizer and self.heard_ms else []

    def restart(self) -> list[Word]:
        """Settle what was understood, and begin again here."""
        assert self._recognizer is not None
        self._recognizer.end()
        words = self.words()
        self.mean = self._recognizer.mean
        self._recognizer.begin(self.mean)
        self._begun_ms = self.heard_ms
        return words

    def end(self) -> list[Word]:
        """Hear what is left, settle what was understood, and let the recognizer go."""
        self._held.extend(piece for piece in (*self._frames.flush(), self._frames.rest) if piece)
        for _ in self._release(len(self._held)) if self._held else ():
            pass
        if self._recognizer is None:
            return []
        self._recognizer.end()
        words = self.words()
        self.mean = self._recognizer.mean
        RECOGNIZERS.give_back(self._recognizer)
        self._recognizer = None
        return words

    def abandon(self) -> None:
        """Let the recognizer go without hearing what is left."""
        if self._recognizer is not None:
            RECOGNIZERS.discard(self._recognizer)
            self._recognizer = None

    def _placed(self, words: Iterable[Word]) -> Iterator[Word]:
        for word in words:
            yield attrs.evolve(word, start_ms=word.start_ms + self._begun_ms, end_ms=word.end_ms + self._begun_ms)

    @property
    def memory_bytes(self) -> int:
        """The audio held; not the recognizer, which is lent."""
        return sum(map(len, self._held)) + self._frames.memory_bytes
