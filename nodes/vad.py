"""VAD: where there is speech, by WebRTC's detector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import attrs
import numpy as np
import webrtcvad

from nodes.contract import Audio, Data, InvalidInput, Item, Kind, Node, from_float32, parameter
from nodes.resampling import MAX_RATIO, SincStream, sinc_delay
from nodes.speech import Segment, Segmenter, merge_segments, milliseconds
from nodes.stream import StreamFormat, continues, mono, require_finite, require_format

__all__ = ["VAD"]

_NATIVE_RATES = (8_000, 16_000, 32_000, 48_000)
_OTHERWISE = 16_000


class _Framer:
    """Cuts one unbroken stretch of audio into frames for webrtcvad: 16-bit mono at a rate that it takes."""

    def __init__(self, first: Audio, frame_duration_ms: int) -> None:
        self.source_rate = first.sample_rate
        self.start = self.stop = first.start
        self.rate = first.sample_rate if first.sample_rate in _NATIVE_RATES else _OTHERWISE
        self._converter = SincStream(first.sample_rate, self.rate, 1) if self.rate != first.sample_rate else None
        self._frame_bytes = self.rate * frame_duration_ms // 1000 * 2
        self._pending = b""

    def push(self, audio: Audio) -> Sequence[bytes]:
        self.stop += len(audio.frames)
        if self._converter is not None:
            converted = self._converter.push(mono(audio)[:, np.newaxis])
            return self._cut(from_float32(converted, "i16").tobytes())
        if audio.sample_format == "i16" and audio.channels == 1:
            return self._cut(audio.frames.tobytes())
        return self._cut(from_float32(mono(audio), "i16").tobytes())

    def flush(self) -> Sequence[bytes]:
        """The frames that the converter still held; what is less than a frame is dropped."""
        return () if self._converter is None else self._cut(from_float32(self._converter.flush(), "i16").tobytes())

    def _cut(self, samples: bytes) -> list[bytes]:
        samples, size = self._pending + samples, self._frame_bytes
        whole = len(samples) - len(samples) % size
        self._pending = samples[whole:]
        return [samples[at : at + size] for at in range(0, whole, size)]

    @property
    def memory_bytes(self) -> int:
        return len(self._pending) + (self._converter.memory_bytes if self._converter else 0)


class _Stream:
    """What the detector knows between the first block and `finish`."""

    def __init__(self, first: Audio, frame_duration_ms: int, detector: Any, segmenter: Segmenter) -> None:
        self.format: StreamFormat = (first.sample_rate, first.channels)
        self.framer = _Framer(first, frame_duration_ms)
        self._detector, self._segmenter = detector, segmenter
        self._frame_duration_ms = frame_duration_ms
        self._decided_frames = 0  # of the framer's stretch
        self._told_ms = milliseconds(segmenter.origin_ms)

    def hear(self, audio: Audio, timestamp_ms: float) -> Data:
        if not len(audio.frames):
            return self._tell("", False, False, timestamp_ms)
        if continues(audio, self.framer.stop):
            return self._tell(*self._decide(self.framer.push(audio)), timestamp_ms)
        decisions, started, ended = self._decide(self.framer.flush())
        ended |= self._segmenter.silence_until(timestamp_ms)
        self.framer, self._decided_frames = _Framer(audio, self._frame_duration_ms), 0
        others, starts, ends = self._decide(self.framer.push(audio))
        return self._tell(decisions + others, started or starts, ended or ends, timestamp_ms)

    def end(self) -> Data:
        """Decide on what the rate conversion still held, and close an open segment."""
        decisions, started, ended = self._decide(self.framer.flush())
        end_ms = self.framer.stop * 1000 / self.framer.source_rate
        ended |= self._segmenter.end_at(end_ms)
        told = self._tell(decisions, started, ended, end_ms)
        return attrs.evolve(told, until=milliseconds(end_ms) / 1000)

    def _decide(self, frames: Sequence[bytes]) -> tuple[str, bool, bool]:
        """Decisions, whether a segment opened, whether one closed."""
        decisions, started, ended = "", False, False
        rate, segmenter, is_speech = self.framer.rate, self._segmenter, self._detector.is_speech
        start_ms = self.framer.start * 1000 / self.framer.source_rate
        for frame in frames:
            self._decided_frames += 1
            end_ms = start_ms + self._decided_frames * self._frame_duration_ms
            if is_speech(frame, rate):
                decisions += "1"
                started |= segmenter.speech_until(end_ms)
            else:
                decisions += "0"
                ended |= segmenter.silence_until(end_ms)
        return decisions, started, ended

    def _tell(self, decisions: str, started: bool, ended: bool, timestamp_ms: float) -> Data:
        at_ms = self._told_ms
        received_ms = self.framer.stop * 1000 / self.framer.source_rate
        self._told_ms = milliseconds(min(self._segmenter.settled_ms, received_ms))
        value = _value(decisions, started, ended, timestamp_ms, self._segmenter.take())
        return Data(value, at_ms / 1000, self._told_ms / 1000)


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
    """Figures since the node was built, across `finish`."""

    frames: int = 0
    speech_frames: int = 0
    segments: int = 0

    def count(self, value: Mapping[str, Any]) -> None:
        self.frames += value["frames"]
        self.speech_frames += value["decisions"].count("1")
        if value["is_speech_end"]:
            self.segments += sum(end_ms is not None for _, end_ms in value["segments"])


@attrs.define
class VAD(Node):
    """Find speech with WebRTC's voice activity detector, and smooth its decisions into segments.

    Takes every rate, format and channel count. Input at 8, 16, 32 or 48 kHz is decided on at its own rate, other rates
    are converted to 16 kHz; several channels are averaged. 16-bit mono at those four rates reaches the detector bit
    for bit. Each block gives one data item:

    * `decisions`: a "0" or "1" for every detector frame that this block completed; `frames`: how many;
      `speech_ratio`: the share of ones, 0 without any. A part of a frame at the very end, or before a gap, is not
      decided.
    * `segments`: `[[start_ms, end_ms]]`, every segment that was open at some time since the last item. One that is
      still open is told in every item with end null, and once more with its end when it closes.
    * `has_speech`: there are such segments; `is_speech_start`, `is_speech_end`: one opened, one closed.
    * `timestamp_ms`: the position of the block's first frame.

    The item's `until` is the point up to which the segments are final: what lies before it and in no segment is
    silence for good, what lies in one is speech for good. `at` is the `until` of the item before, so the items tile
    the stream. `until` never goes beyond the audio received. A gap counts as silence.

    With `forward_audio` each block is passed on as well, before its data and without delay.
    """

    aggressiveness: int = parameter(2, help="0 finds most speech, 3 is hardest to convince", choices=(0, 1, 2, 3))
    frame_duration_ms: int = parameter(30, help="length of one decision in ms", choices=(10, 20, 30))
    min_speech_ms: float = parameter(
        60.0, help="unbroken speech that opens a segment, in ms", at_least=0, at_most=60_000
    )
    min_silence_ms: float = parameter(300.0, help="silence that closes a segment, in ms", at_least=0, at_most=60_000)
    padding_ms: float = parameter(
        30.0, help="what a segment has before and after its speech, in ms; at most min_silence_ms", at_least=0
    )
    forward_audio: bool = parameter(False, help="give the audio too")
    _stream: _Stream | None = attrs.field(init=False, default=None, repr=False)
    _tally: _Tally = attrs.field(init=False, factory=_Tally, repr=False)

    takes = Kind.AUDIO

    def __attrs_post_init__(self) -> None:
        if self.padding_ms > self.min_silence_ms:
            raise ValueError(
                f"padding_ms must be at most min_silence_ms ({self.min_silence_ms}), got {self.padding_ms}"
            )

    @property
    def gives(self) -> Kind:
        """Data, and with `forward_audio` audio."""
        return Kind.BOTH if self.forward_audio else Kind.DATA

    def process(self, item: Audio) -> Iterable[Item]:
        """Decide on the frames that one block of shape (n, channels) completes.

        Raises:
          InvalidInput: the rate or channel count is not the stream's, the block begins before the end of the last
            one, holds NaN or infinity, or its rate is below 62.5 Hz.
        """
        self._require(item)
        if self._stream is None and len(item.frames):
            self._stream = self._begin(item)
        timestamp_ms = item.start * 1000 / item.sample_rate
        if self._stream is None:
            told = Data(_value("", False, False, timestamp_ms, []))
        else:
            told = self._stream.hear(item, timestamp_ms)
            self._tally.count(told.value)
        return (item, told) if self.forward_audio else (told,)

    def _require(self, item: Audio) -> None:
        if self._stream is not None:
            require_format(item, self._stream.format)
        elif item.sample_rate * MAX_RATIO < _OTHERWISE:
            raise InvalidInput(f"cannot look for speech at {item.sample_rate} Hz")
        require_finite(item)

    def _begin(self, first: Audio) -> _Stream:
        start_ms = first.start * 1000 / first.sample_rate
        segmenter = Segmenter(self.min_speech_ms, self.min_silence_ms, self.padding_ms, start_ms)
        return _Stream(first, self.frame_duration_ms, webrtcvad.Vad(self.aggressiveness), segmenter)

    def finish(self) -> Iterable[Item]:
        """Decide on what the rate conversion still held, close an open segment, and settle everything."""
        if self._stream is None:
            return ()
        told = self._stream.end()
        self._tally.count(told.value)
        self._stream = None
        return (told,)

    def close(self) -> None:
        """Free the detector."""
        self._stream = None

    @property
    def delay(self) -> float:
        """By how many seconds `until` may be behind the audio; forwarded audio is not delayed."""
        frame_ms = self.frame_duration_ms
        opening_ms = max(1, ceil(self.min_speech_ms / frame_ms)) * frame_ms + self.padding_ms
        closing_ms = max(1, ceil(self.min_silence_ms / frame_ms)) * frame_ms - self.padding_ms
        source = 8_001 if self._stream is None else self._stream.format[0]
        conversion = 0.0 if source in _NATIVE_RATES else sinc_delay(source, _OTHERWISE)
        return max(opening_ms, closing_ms) / 1000 + conversion

    @property
    def memory_bytes(self) -> int:
        """The part of a frame that waits, and the converter's buffers."""
        return 0 if self._stream is None else self._stream.framer.memory_bytes

    def custom_metrics(self) -> Mapping[str, Any]:
        """Segments closed and share of speech frames since the node was built, across `finish`."""
        tally = self._tally
        return {"vad_segments": tally.segments, "speech_ratio": tally.speech_frames / max(1, tally.frames)}

    def join(self, items: Sequence[Data]) -> Data:
        """One item for several: all decisions, their ratio, and each segment once."""
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
        spans = [item for item in items if item.until is not None]
        return Data(value, spans[0].at, spans[-1].until) if spans else Data(value)
