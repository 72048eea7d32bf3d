"""SpeechToText: transcription of English speech."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from nodes.bases.recognition import Recognition
from nodes.bases.recognizer_node import RecognizerNode, placed
from nodes.contract import Audio, Data, InvalidInput, Item, Kind, parameter
from nodes.dsp.blocks import split
from nodes.libraries.pocketsphinx import Task

__all__ = ["SpeechToText"]


@attrs.define
class SpeechToText(RecognizerNode):
    """Transcribe English speech, utterance by utterance, with pocketsphinx.

    Source: D. Huggins-Daines et al., "PocketSphinx: A Free, Real-Time Continuous Speech Recognition System for
    Hand-Held Devices", 2006, with the English model of its wheel (extra `asr`). It is small and old: of clear
    speech by one voice it finds most words, with noise or accents few.

    Takes audio of any rate, format and channel count, and converts it to 16 kHz mono. An utterance ends at a gap in the
    audio, at the end of speech in the `segments` of `SpeechSegmenter`, `VAD` or `SileroVAD`, at `max_utterance_ms`, and
    at the end of the stream. Connect it to `SpeechSegmenter`, best with `whole` false, because most of the work is then
    done before the utterance ends. Audio without segments is cut without regard to words. The data (`at` and `until`
    span the utterance as far as it was heard):

    * `text`: the words of an utterance that has ended, possibly none; `words`: each `word` with its `start_ms` and
      `end_ms`;
    * `partial`: the words so far, whenever they change; they may still change. Empty with `text`.

    The node runs in a thread. A second of speech takes about 0.3 s of CPU time, and the end of an utterance 0.1 s more
    for each of its seconds. Long utterances in one block may need a greater `max_timeout_ms` for a row. A session uses
    one recognizer, of about 100 MB, while an utterance lasts. The first is loaded (0.4 s) with the first such node,
    further ones with the utterances that need them, and two idle ones are kept. They belong to the process, and do not
    count as the session's memory.
    """

    max_utterance_ms: float = parameter(
        15_000.0, help="length at which an utterance is cut, in ms", at_least=1_000, at_most=60_000
    )
    partial_every_ms: float = parameter(
        500.0, help="time between partial results, in ms; 0: none", at_least=0, at_most=60_000
    )
    max_active: int = parameter(
        5_000,
        help="HMM states followed in every frame: more are slower, but may find more words",
        at_least=100,
        at_most=30_000,
    )
    _segment_end_ms: float = attrs.field(init=False, default=0.0, repr=False)
    _partial: str = attrs.field(init=False, default="", repr=False)
    _partial_ms: float = attrs.field(init=False, default=0.0, repr=False)

    takes = Kind.BOTH

    @property
    def task(self) -> Task:
        """The recognition of any English speech."""
        return Task(self.max_active)

    def process(self, item: Item) -> Iterable[Data]:
        """Recognize one block of shape (n, channels), or take the ends of utterances from data.

        Raises:
          InvalidInput: data have no segments; or the sample rate or channel count of audio is not the stream's, a block
            begins before the end of the previous one, or holds NaN or infinity, or its rate cannot be converted to
            16 kHz.
        """
        if isinstance(item, Audio):
            return self.take(item)
        self._segment_end_ms = max(self._segment_end_ms, _latest_end(item))
        return list(self._end_if_over())

    def hear(self, audio: Audio) -> Iterator[Data]:
        """Yield partial text, and the text of every utterance that ends in this block."""
        while len(audio.frames):
            stretch = self.stretch_of(audio)
            limit = round(self.max_utterance_ms * audio.sample_rate / 1000) - stretch.n_frames
            head, audio = split(audio, audio.start + limit)
            for _ in stretch.push(head):
                yield from self._partial_text(stretch)
            if len(head.frames) == limit:
                yield from self.end()
        yield from self._end_if_over()

    def _partial_text(self, stretch: Recognition) -> Iterator[Data]:
        if not self.partial_every_ms or stretch.heard_ms < self._partial_ms + self.partial_every_ms:
            return
        self._partial_ms = stretch.heard_ms
        partial = " ".join(word.text for word in stretch.words())
        if partial != self._partial:
            self._partial = partial
            heard_until = (stretch.start_ms + stretch.heard_ms) / 1000
            yield Data({"text": "", "words": [], "partial": partial}, stretch.start_ms / 1000, heard_until)

    def _end_if_over(self) -> Iterator[Data]:
        """End the utterance if a speech segment ended in it."""
        stretch, end_ms = self._stretch, self._segment_end_ms
        if stretch is not None and stretch.start_ms < end_ms and stretch.reaches(end_ms):
            yield from self.end()

    def end(self) -> Iterator[Data]:
        """Yield the text of the utterance, if there is one."""
        stretch = self._stretch
        if stretch is None:
            return
        heard = self.end_stretch(stretch)
        places = [placed(word, stretch) for word in heard]
        words = [
            {"word": word.text, "start_ms": start_ms, "end_ms": end_ms}
            for word, (start_ms, end_ms) in zip(heard, places, strict=True)
        ]
        self._partial, self._partial_ms = "", 0.0
        value = {"text": " ".join(word.text for word in heard), "words": words, "partial": ""}
        yield Data(value, stretch.start_ms / 1000, stretch.stop_ms / 1000)

    def close(self) -> None:
        """Give up the utterance, and free its recognizer."""
        super().close()
        self._segment_end_ms, self._partial, self._partial_ms = 0.0, "", 0.0

    @property
    def delay(self) -> float:
        """Length of the longest utterance in seconds, because its text comes with its end."""
        return self.max_utterance_ms / 1000

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with all text, and the latest partial text."""
        values = [item.value for item in items]
        value = {
            "text": " ".join(one["text"] for one in values if one["text"]),
            "words": [word for one in values for word in one["words"]],
            "partial": values[-1]["partial"],
        }
        return Data(value, items[0].at, items[-1].until)


def _latest_end(item: Data) -> float:
    """Return the end of the last closed segment in a detector's data, in ms; 0 without one."""
    segments: Any = item.value.get("segments")
    if not isinstance(segments, list):
        raise InvalidInput("the data have no speech segments")
    return max((end_ms for _, end_ms in segments if end_ms is not None), default=0.0)
