"""KeywordSpotter: given phrases in English speech."""

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
"""How long the library waits for a better match before it tells of one."""


@attrs.define
class KeywordSpotter(RecognizerNode):
    """Find given English phrases in speech, with pocketsphinx.

    Source: the keyphrase search of PocketSphinx (extra `asr`), which holds a phrase's phones against a loop of all
    phones. Takes audio of every rate, format and channel count; it is heard as 16 kHz mono. Each hit is an item of
    data, whose `keywords` hold the `phrase` with its `start_ms` and `end_ms`; `at` and `until` are the same.

    A threshold is the likelihood ratio that makes a hit, from 1e-50 (finds nearly every one, and false ones) to 1. It
    has to be tried for each phrase: about 1e-20 for two syllables, 1e-40 for long phrases. Phrases of three or more
    syllables work best. Of clear speech it finds most phrases; of synthetic speech less, by some voices nothing. What
    begins before a hit was told, up to 0.3 s after it, is not heard.

    Works in a thread, at about a twentieth of real time. The model is loaded with the first second of audio; see
    `SpeechToText` on memory.
    """

    phrases: dict[str, float] = parameter(
        help=f"phrase, in lower case → threshold, above 0 and at most 1; up to {_MAX_PHRASES}"
    )

    takes = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not 1 <= len(self.phrases) <= _MAX_PHRASES:
            raise ValueError(f"phrases must be 1 to {_MAX_PHRASES}, got {len(self.phrases)}")
        for phrase, threshold in self.phrases.items():
            if not phrase or phrase != " ".join(phrase.split()):
                raise ValueError(f"a phrase is words with one space between them, got {phrase!r}")
            if not 0 < threshold <= 1:
                raise ValueError(f"the threshold of {phrase!r} must be above 0 and at most 1, got {threshold!r}")
            require_words(phrase)

    @property
    def task(self) -> Task:
        """The phrases."""
        return Task(keyphrases=tuple(self.phrases.items()))

    def process(self, item: Audio) -> Iterable[Data]:
        """Find the phrases that end in one block of shape (n, channels).

        Raises:
          InvalidInput: the rate or channel count is not the stream's, the block begins before the end of the last
            one, holds NaN or infinity, or its rate cannot be converted to 16 kHz.
        """
        return self.take(item)

    def hear(self, audio: Audio) -> Iterator[Data]:
        """The hits in this block; after each the search begins anew, so it holds no list of them."""
        stretch = self.stretch_of(audio)
        for _ in stretch.push(audio):
            if stretch.words():
                yield from _hits(stretch.restart(), stretch)

    def end(self) -> Iterator[Data]:
        """The hits in what was held, if there is a stretch."""
        if (stretch := self._stretch) is not None:
            yield from _hits(self.end_stretch(stretch), stretch)

    @property
    def delay(self) -> float:
        """How long after its end a phrase is told, in seconds; in the first second of a stream it waits for that."""
        return (PRIMING_MS + SLICE_MS + _DECISION_MS) / 1000

    def join(self, items: Sequence[Data]) -> Data:
        """One item for several: all hits."""
        value = {"keywords": [hit for item in items for hit in item.value["keywords"]]}
        return Data(value, items[0].at, items[-1].until)


def _hits(words: Iterable[Word], stretch: Recognition) -> Iterator[Data]:
    for word in words:
        start_ms, end_ms = placed(word, stretch)
        hit = {"phrase": word.text, "start_ms": start_ms, "end_ms": end_ms}
        yield Data({"keywords": [hit]}, start_ms / 1000, end_ms / 1000)
