"""Base class of VAD and SileroVAD, which find speech frame by frame: everything except the detector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Protocol

import attrs

from nodes.bases.frame_filter import require_convertible
from nodes.contract import Audio, Data, Item, Kind, Node, parameter
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format
from nodes.dsp.resampling import sinc_delay
from nodes.dsp.segments import Segment, Segmenter, merge_segments, milliseconds
from nodes.dsp.speech_frames import SpeechFrames

__all__ = ["Detector", "SpeechDetection"]

_SLOWEST_RATE = 8_001
"""Usual sample rate with the longest conversion delay; assumed while the stream's rate is unknown."""


class Detector(Protocol):
    """Decides on frames of 16-bit mono, one after another."""

    def is_speech(self, frame: bytes) -> bool:
        """Return True if there is speech in the next frame."""
        ...

    def skip(self) -> None:
        """Note that audio is missing before the next frame."""
        ...

    def details(self) -> Mapping[str, Any]:
        """Return further fields for the data, about the frames since the last call."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Number of bytes held, as far as it can be known."""
        ...


class _Stream:
    """State of one stream, from its first block to `finish`: its frames, detector and segments."""

    def __init__(self, first: Audio, rate: int, frame_ms: int, detector: Detector, segmenter: Segmenter) -> None:
        self.format: StreamFormat = (first.sample_rate, first.channels)
        self._detector, self._segmenter = detector, segmenter
        self._rate, self._frame_ms = rate, frame_ms
        self._reported_ms = milliseconds(segmenter.origin_ms)
        self._begin(first)

    def _begin(self, first: Audio) -> None:
        self._frames = SpeechFrames(first, self._rate, self._rate * self._frame_ms // 1000)
        self._decided_frames = 0

    def hear(self, audio: Audio, timestamp_ms: float) -> Data:
        if not len(audio.frames):
            return self._report("", False, False, timestamp_ms)
        if continues(audio, self._frames.stop):
            return self._report(*self._decide(self._frames.push(audio)), timestamp_ms)
        decisions, started, ended = self._decide(self._frames.flush())
        ended |= self._segmenter.silence_until(timestamp_ms)
        self._detector.skip()
        self._begin(audio)
        others, starts, ends = self._decide(self._frames.push(audio))
        return self._report(decisions + others, started or starts, ended or ends, timestamp_ms)

    def end(self) -> Data:
        """Decide on the frames that the rate conversion still held, and close an open segment."""
        decisions, started, ended = self._decide(self._frames.flush())
        end_ms = self._frames.stop_ms
        ended |= self._segmenter.end_at(end_ms)
        item = self._report(decisions, started, ended, end_ms)
        return attrs.evolve(item, until=milliseconds(end_ms) / 1000)

    def _decide(self, frames: Sequence[bytes]) -> tuple[str, bool, bool]:
        """Decide on frames; return the decisions, True if a segment opened, and True if one closed."""
        decisions, started, ended = "", False, False
        if not frames:
            return decisions, started, ended
        segmenter, is_speech = self._segmenter, self._detector.is_speech
        start_ms = self._frames.start_ms
        for frame in frames:
            self._decided_frames += 1
            end_ms = start_ms + self._decided_frames * self._frame_ms
            if is_speech(frame):
                decisions += "1"
                started |= segmenter.speech_until(end_ms)
            else:
                decisions += "0"
                ended |= segmenter.silence_until(end_ms)
        return decisions, started, ended

    def _report(self, decisions: str, started: bool, ended: bool, timestamp_ms: float) -> Data:
        at_ms = self._reported_ms
        self._reported_ms = until_ms = milliseconds(min(self._segmenter.settled_ms, self._frames.stop_ms))
        value = _value(decisions, started, ended, timestamp_ms, self._segmenter.take())
        if details := self._detector.details():
            value.update(details)
        return Data(value, at_ms / 1000, until_ms / 1000)

    @property
    def memory_bytes(self) -> int:
        return self._frames.memory_bytes + self._detector.memory_bytes


def _value(decisions: str, started: bool, ended: bool, timestamp_ms: float, segments: list[Segment]) -> dict[str, Any]:
    frames = len(decisions)
    return {
        "has_speech": bool(segments),
        "speech_ratio": decisions.count("1") / frames if frames else 0.0,
        "is_speech_start": started,
        "is_speech_end": ended,
        "timestamp_ms": milliseconds(timestamp_ms),
        "frames": frames,
        "decisions": decisions,
        "segments": segments,
    }


@attrs.define
class _Tally:
    """Counts since the node was built, across `finish`."""

    frames: int = 0
    speech_frames: int = 0
    segments: int = 0

    def count(self, value: Mapping[str, Any]) -> None:
        self.frames += value["frames"]
        self.speech_frames += value["decisions"].count("1")
        if value["is_speech_end"]:
            self.segments += sum(end_ms is not None for _, end_ms in value["segments"])


@attrs.define
class SpeechDetection(Node):
    """A node whose `Detector` decides on frames; the decisions are smoothed into segments as described in `VAD`."""

    min_speech_ms: float = parameter(
        60.0, help="unbroken speech that opens a segment, in ms", at_least=0, at_most=60_000
    )
    min_silence_ms: float = parameter(300.0, help="silence that closes a segment, in ms", at_least=0, at_most=60_000)
    padding_ms: float = parameter(
        30.0, help="margin of a segment before and after its speech, in ms; at most min_silence_ms", at_least=0
    )
    forward_audio: bool = parameter(False, help="output the audio as well")
    _stream: _Stream | None = attrs.field(init=False, default=None, repr=False)
    _tally: _Tally = attrs.field(init=False, factory=_Tally, repr=False)

    takes = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        if self.padding_ms > self.min_silence_ms:
            raise ValueError(
                f"padding_ms must be at most min_silence_ms ({self.min_silence_ms}), got {self.padding_ms}"
            )

    @property
    def frame_ms(self) -> int:
        """Length of a frame, in ms."""
        raise NotImplementedError

    def detector_rate(self, sample_rate: int) -> int:
        """Return the rate, in Hz, to which audio of this sample rate is converted for the detector."""
        raise NotImplementedError

    def make_detector(self, sample_rate: int) -> Detector:
        """Build a fresh detector for frames of this rate."""
        raise NotImplementedError

    @property
    def gives(self) -> Kind:
        """Data, and with `forward_audio` also audio."""
        return Kind.BOTH if self.forward_audio else Kind.DATA

    def process(self, item: Audio) -> Iterable[Item]:
        """Decide on the frames that one block of shape (n, channels) completes.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, the block begins before the end of the
            previous one, or holds NaN or infinity, or its rate cannot be converted to the detector's.
        """
        self._require(item)
        if self._stream is None and len(item.frames):
            self._stream = self._begin(item)
        data: tuple[Data, ...] = ()
        if self._stream is not None:
            data = (self._stream.hear(item, item.start * 1000 / item.sample_rate),)
            self._tally.count(data[0].value)
        return (item, *data) if self.forward_audio else data

    def _require(self, item: Audio) -> None:
        if self._stream is not None:
            require_format(item, self._stream.format)
        else:
            require_convertible(item.sample_rate, self.detector_rate(item.sample_rate))
        require_finite(item)

    def _begin(self, first: Audio) -> _Stream:
        rate = self.detector_rate(first.sample_rate)
        start_ms = first.start * 1000 / first.sample_rate
        segmenter = Segmenter(self.min_speech_ms, self.min_silence_ms, self.padding_ms, start_ms)
        return _Stream(first, rate, self.frame_ms, self.make_detector(rate), segmenter)

    def finish(self) -> Iterable[Item]:
        """Decide on the frames that the rate conversion still held, close an open segment, and settle everything."""
        if self._stream is None:
            return ()
        data = self._stream.end()
        self._tally.count(data.value)
        self._stream = None
        return (data,)

    def close(self) -> None:
        """Free the detector."""
        self._stream = None

    @property
    def delay(self) -> float:
        """Greatest lag of `until` behind the audio, in seconds; forwarded audio is not delayed."""
        opening_ms = max(1, ceil(self.min_speech_ms / self.frame_ms)) * self.frame_ms + self.padding_ms
        closing_ms = max(1, ceil(self.min_silence_ms / self.frame_ms)) * self.frame_ms - self.padding_ms
        source = _SLOWEST_RATE if self._stream is None else self._stream.format[0]
        rate = self.detector_rate(source)
        conversion = 0.0 if rate == source else sinc_delay(source, rate)
        return max(opening_ms, closing_ms) / 1000 + conversion

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the incomplete frame, the converter's buffers and the detector."""
        return 0 if self._stream is None else self._stream.memory_bytes

    def custom_metrics(self) -> Mapping[str, Any]:
        """Return the number of closed segments and the share of speech frames since the node was built."""
        tally = self._tally
        return {"vad_segments": tally.segments, "speech_ratio": tally.speech_frames / max(1, tally.frames)}

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with all decisions, their ratio, and each segment once."""
        if len(items) == 1:
            return items[0]
        values = [item.value for item in items]
        value = _value(
            "".join(one["decisions"] for one in values),
            any(one["is_speech_start"] for one in values),
            any(one["is_speech_end"] for one in values),
            values[0]["timestamp_ms"],
            merge_segments(one["segments"] for one in values),
        )
        return Data(value, items[0].at, items[-1].until)
