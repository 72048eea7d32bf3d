"""Recognition of the speech in one unbroken stretch of audio."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import attrs

from nodes.contract import Audio
from nodes.dsp.speech_frames import SpeechFrames
from nodes.libraries.pocketsphinx import RECOGNIZERS, SAMPLE_RATE, Recognizer, Task, Word

__all__ = ["PRIMING_MS", "SLICE_MS", "Recognition", "prepare"]

SLICE_MS = 100
"""Length of the slices in which the recognizer hears audio, so that the words do not depend on how it is cut."""

PRIMING_MS = 1_000
"""Length of the audio of which the first cepstral mean is taken."""

_CATCH_UP = 2
"""Slices that are recognized for each new one while others are held back, so that no short block takes long."""


def prepare(task: Task) -> None:
    """Load the first recognizer of this process before a stretch needs it."""
    RECOGNIZERS.prepare(task)


class Recognition:
    """Feeds one unbroken stretch of audio to a recognizer, and returns the words with their times in the stretch.

    A recognizer subtracts the cepstral mean of the audio that it has heard, to be independent of voice and microphone.
    If no mean is known yet, the first second of audio is held back until it is complete, and its own mean is used; then
    the recognizer catches up.

    Attributes:
      heard_ms: Length of the audio that the recognizer has heard.
      mean: Cepstral mean, for the next stretch of the same voice; None before there is one.
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
        """Beginning of the stretch, in ms since the session began."""
        return self._frames.start_ms

    @property
    def n_frames(self) -> int:
        """Number of frames pushed, at the rate of the stream."""
        return self._frames.stop - self._frames.start

    @property
    def stop_ms(self) -> float:
        """End of the pushed audio, in ms since the session began."""
        return self._frames.stop_ms

    def reaches(self, place_ms: float) -> bool:
        """Return True if the pushed audio reaches a time, or the frame before it, because times are rounded."""
        return round(place_ms * self._frames.source_rate / 1000) <= self._frames.stop + 1

    def push(self, audio: Audio) -> Iterator[None]:
        """Feed a block to the recognizer, yielding after each slice."""
        for piece in self._frames.push(audio):
            yield from self._hear(piece)

    def _hear(self, piece: bytes) -> Iterator[None]:
        self._held.append(piece)
        self._borrow()  # here already, because loading a recognizer is enough work for one block
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
        """Return the words since the beginning or the last `restart`; the last of them may still change."""
        return list(self._placed(self._recognizer.words())) if self._recognizer and self.heard_ms else []

    def restart(self) -> list[Word]:
        """Settle and return the words, and begin a new utterance here."""
        assert self._recognizer is not None
        self._recognizer.end()
        words = self.words()
        self.mean = self._recognizer.mean
        self._recognizer.begin(self.mean)
        self._begun_ms = self.heard_ms
        return words

    def end(self) -> list[Word]:
        """Recognize the rest of the audio, settle and return the words, and give the recognizer back."""
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
        """Discard the recognizer without recognizing the rest of the audio."""
        if self._recognizer is not None:
            RECOGNIZERS.discard(self._recognizer)
            self._recognizer = None

    def _placed(self, words: Iterable[Word]) -> Iterator[Word]:
        for word in words:
            yield attrs.evolve(word, start_ms=word.start_ms + self._begun_ms, end_ms=word.end_ms + self._begun_ms)

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held audio, without the recognizer, which is only borrowed."""
        return sum(map(len, self._held)) + self._frames.memory_bytes
