"""KeywordSpotter: detection of given phrases in English speech."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from nodes.bases.recognition import PRIMING_MS, SLICE_MS, Recognition
from nodes.bases.recognizer_node import RecognizerNode, placed
from nodes.contract import Audio, Data, Kind, parameter
from nodes.libraries.pocketsphinx import Task, Word, require_words

__all__ = ["KeywordSpotter"]

_MAX_PHRASES = 50
_DECISION_MS = 100
"""Time that the library waits for a better match before it reports one."""


@attrs.define
class KeywordSpotter(RecognizerNode):
    """Find given English phrases in speech, with pocketsphinx.

    Source: the keyphrase search of PocketSphinx (extra `asr`), which compares the phones of a phrase with a loop of all
    phones. Takes audio of any rate, format and channel count, and converts it to 16 kHz mono. Each hit is a data item,
    whose `keywords` hold the `phrase` with its `start_ms` and `end_ms`; `at` and `until` are the same times.

    A threshold is the likelihood ratio from which a match is a hit: from 1e-50 (finds nearly every one, and false ones)
    to 1. Tune it for each phrase: about 1e-20 for two syllables, 1e-40 for long phrases. Phrases of three or more
    syllables work best. The node finds most phrases in clear speech, fewer in synthetic speech, and none of some
    synthetic voices. A phrase is missed if it begins before the previous hit is reported, up to 0.3 s after that hit.

    The node runs in a thread, and takes about a twentieth of real time. The model is loaded with the first second of
    audio; `SpeechToText` describes its memory.
    """

    phrases: dict[str, float] = parameter(
        help=f"phrase in lower case → threshold, above 0 and at most 1; up to {_MAX_PHRASES} phrases"
    )

    takes = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not 1 <= len(self.phrases) <= _MAX_PHRASES:
            raise ValueError(f"there must be 1 to {_MAX_PHRASES} phrases, got {len(self.phrases)}")
        for phrase, threshold in self.phrases.items():
            if not phrase or phrase != " ".join(phrase.split()):
                raise ValueError(f"a phrase must be words with one space between them, got {phrase!r}")
            if not 0 < threshold <= 1:
                raise ValueError(f"the threshold of {phrase!r} must be above 0 and at most 1, got {threshold!r}")
            require_words(phrase)

    @property
    def task(self) -> Task:
        """The search for the phrases."""
        return Task(keyphrases=tuple(self.phrases.items()))

    def process(self, item: Audio) -> Iterable[Data]:
        """Find the phrases that end in one block of shape (n, channels).

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, the block begins before the end of the
            previous one, or holds NaN or infinity, or its rate cannot be converted to 16 kHz.
        """
        return self.take(item)

    def hear(self, audio: Audio) -> Iterator[Data]:
        """Yield the hits in this block; the search restarts after each, so that it keeps no list of them."""
        stretch = self.stretch_of(audio)
        for _ in stretch.push(audio):
            if stretch.words():
                yield from _hits(stretch.restart(), stretch)

    def end(self) -> Iterator[Data]:
        """Yield the hits in the held audio, if there is a stretch."""
        if (stretch := self._stretch) is not None:
            yield from _hits(self.end_stretch(stretch), stretch)

    @property
    def delay(self) -> float:
        """Greatest time from the end of a phrase to its report, in seconds; a stream's first second is held back."""
        return (PRIMING_MS + SLICE_MS + _DECISION_MS) / 1000

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with all hits."""
        value = {"keywords": [hit for item in items for hit in item.value["keywords"]]}
        return Data(value, items[0].at, items[-1].until)


def _hits(words: Iterable[Word], stretch: Recognition) -> Iterator[Data]:
    for word in words:
        start_ms, end_ms = placed(word, stretch)
        hit = {"phrase": word.text, "start_ms": start_ms, "end_ms": end_ms}
        yield Data({"keywords": [hit]}, start_ms / 1000, end_ms / 1000)
