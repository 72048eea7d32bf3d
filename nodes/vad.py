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
from nodes.speech import Segmenter, merge_segments, milliseconds
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

    def push(self, audio: Audio) -> Iterable[bytes]:
        self.stop += len(audio.frames)
        if self._converter is not None:
            converted = self._converter.push(mono(audio)[:, np.newaxis])
            return self._cut(from_float32(converted, "i16").tobytes())
        if audio.sample_format == "i16" and audio.channels == 1:
            return self._cut(audio.frames.tobytes())
        return self._cut(from_float32(mono(audio), "i16").tobytes())

    def flush(self) -> Iterable[bytes]:
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
        120.0, help="what a segment has before and after its speech, in ms; at most min_silence_ms", at_least=0
    )
    forward_audio: bool = parameter(False, help="give the audio too")
    _format: StreamFormat | None = attrs.field(init=False, default=None, repr=False)
    _detector: Any = attrs.field(init=False, default=None, repr=False)
    _framer: _Framer | None = attrs.field(init=False, default=None, repr=False)
    _segmenter: Segmenter | None = attrs.field(init=False, default=None, repr=False)
    _stretch_frames: int = attrs.field(init=False, default=0, repr=False)
    _told_ms: float = attrs.field(init=False, default=0.0, repr=False)
    _all_frames: int = attrs.field(init=False, default=0, repr=False)
    _speech_frames: int = attrs.field(init=False, default=0, repr=False)
    _segments: int = attrs.field(init=False, default=0, repr=False)

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
        row = _Row()
        if len(item.frames):
            if self._framer is None or not continues(item, self._framer.stop):
                self._begin_stretch(item, row)
            assert self._framer is not None
            self._decide(self._framer.push(item), row)
        told = self._tell(row, item.start * 1000 / item.sample_rate)
        return (item, told) if self.forward_audio else (told,)

    def _require(self, item: Audio) -> None:
        if self._format is not None:
            require_format(item, self._format)
        elif item.sample_rate * MAX_RATIO < _OTHERWISE:
            raise InvalidInput(f"cannot look for speech at {item.sample_rate} Hz")
        require_finite(item)

    def _begin_stretch(self, item: Audio, row: _Row) -> None:
        start_ms = item.start * 1000 / item.sample_rate
        if self._framer is None or self._segmenter is None:
            self._format = (item.sample_rate, item.channels)
            self._detector = webrtcvad.Vad(self.aggressiveness)
            self._segmenter = Segmenter(self.min_speech_ms, self.min_silence_ms, self.padding_ms, start_ms)
            self._told_ms = start_ms
        else:
            self._decide(self._framer.flush(), row)
            row.ended |= self._segmenter.silence_until(start_ms)
        self._framer = _Framer(item, self.frame_duration_ms)
        self._stretch_frames = 0

    def _decide(self, frames: Iterable[bytes], row: _Row) -> None:
        assert self._framer is not None
        assert self._segmenter is not None
        is_speech, rate = self._detector.is_speech, self._framer.rate
        start_ms = self._framer.start * 1000 / self._framer.source_rate
        for frame in frames:
            self._stretch_frames += 1
            end_ms = start_ms + self._stretch_frames * self.frame_duration_ms
            if is_speech(frame, rate):
                row.decisions.append("1")
                row.started |= self._segmenter.speech_until(end_ms)
            else:
                row.decisions.append("0")
                row.ended |= self._segmenter.silence_until(end_ms)

    def _tell(self, row: _Row, timestamp_ms: float) -> Data:
        value = _summary("".join(row.decisions))
        segments = [] if self._segmenter is None else self._segmenter.take()
        value["has_speech"] = bool(segments)
        value["is_speech_start"] = row.started
        value["is_speech_end"] = row.ended
        value["timestamp_ms"] = milliseconds(timestamp_ms)
        value["segments"] = segments
        self._count(value)
        if self._segmenter is None or self._framer is None:
            return Data(value)
        at_ms = self._told_ms
        received_ms = self._framer.stop * 1000 / self._framer.source_rate
        self._told_ms = max(at_ms, milliseconds(min(self._segmenter.settled_ms, received_ms)))
        return Data(value, at_ms / 1000, self._told_ms / 1000)

    def _count(self, value: Mapping[str, Any]) -> None:
        self._all_frames += value["frames"]
        self._speech_frames += value["decisions"].count("1")
        self._segments += sum(end_ms is not None for _, end_ms in value["segments"])

    def finish(self) -> Iterable[Item]:
        """Decide on what the rate conversion still held, close an open segment, and settle everything."""
        if self._framer is None or self._segmenter is None:
            return ()
        row = _Row()
        self._decide(self._framer.flush(), row)
        end_ms = self._framer.stop * 1000 / self._framer.source_rate
        row.ended |= self._segmenter.end_at(end_ms)
        told = self._tell(row, end_ms)
        self.close()
        return (Data(told.value, told.at, max(told.until or 0.0, milliseconds(end_ms) / 1000)),)

    def close(self) -> None:
        """Free the detector and forget the stream."""
        self._format = self._detector = self._framer = self._segmenter = None

    @property
    def delay(self) -> float:
        """By how many seconds `until` may be behind the audio; forwarded audio is not delayed."""
        frame_ms = self.frame_duration_ms
        opening_ms = max(1, ceil(self.min_speech_ms / frame_ms)) * frame_ms + self.padding_ms
        closing_ms = max(1, ceil(self.min_silence_ms / frame_ms)) * frame_ms - self.padding_ms
        source = 8_001 if self._format is None else self._format[0]
        conversion = 0.0 if source in _NATIVE_RATES else sinc_delay(source, _OTHERWISE)
        return max(opening_ms, closing_ms) / 1000 + conversion

    @property
    def memory_bytes(self) -> int:
        """The part of a frame that waits, and the converter's buffers."""
        return 0 if self._framer is None else self._framer.memory_bytes

    def custom_metrics(self) -> Mapping[str, Any]:
        """Segments closed and share of speech frames since the node was built, across `finish`."""
        ratio = self._speech_frames / self._all_frames if self._all_frames else 0.0
        return {"vad_segments": self._segments, "speech_ratio": ratio}

    def join(self, items: Sequence[Data]) -> Data:
        """One item for several: all decisions, their ratio, and each segment once."""
        if len(items) == 1:
            return items[0]
        values = [item.value for item in items]
        value = _summary("".join(value["decisions"] for value in values))
        for key in ("has_speech", "is_speech_start", "is_speech_end"):
            value[key] = any(one[key] for one in values)
        value["timestamp_ms"] = values[0]["timestamp_ms"]
        value["segments"] = merge_segments(one["segments"] for one in values)
        spans = [item for item in items if item.until is not None]
        return Data(value, spans[0].at, spans[-1].until) if spans else Data(value)


@attrs.define
class _Row:
    """What one block brings."""

    decisions: list[str] = attrs.field(factory=list)
    started: bool = False
    ended: bool = False


def _summary(decisions: str) -> dict[str, Any]:
    ratio = decisions.count("1") / len(decisions) if decisions else 0.0
    return {"decisions": decisions, "frames": len(decisions), "speech_ratio": ratio}
