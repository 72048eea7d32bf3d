"""AudioResample: conversion to another sample rate."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from nodes.contract import (
    FULL_SCALE,
    MAX_SAMPLE_RATE,
    Audio,
    Float32,
    InvalidInput,
    Node,
    SampleFormat,
    Samples,
    from_float32,
    parameter,
    rounded,
    unchecked_audio,
)
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format, scaled
from nodes.dsp.resampling import (
    LIBSAMPLERATE_CONVERTERS,
    MAX_RATIO,
    SOXR_QUALITIES,
    USUAL_RATES,
    InterpolatedStream,
    RateStream,
    SincStream,
    SoxrStream,
    sinc_delay,
    soxr_delay,
)
from nodes.libraries.extras import require

__all__ = ["AudioResample"]

_FLOAT32 = np.dtype(np.float32)


@attrs.define
class _Place:
    """Beginning and progress of an unbroken stretch of audio.

    Samples go through the filter in the scale of the first block's format. The filter works at any scale, and its
    output then only needs to be rounded.
    """

    source_start: int
    target_start: int
    scale: SampleFormat
    sample_format: SampleFormat
    taken_frames: int = 0
    given_frames: int = 0

    def take(self, audio: Audio) -> Float32:
        self.sample_format = audio.sample_format
        self.taken_frames += len(audio.frames)
        if audio.sample_format == self.scale:
            return audio.frames.astype(_FLOAT32, copy=False)
        return scaled(audio.as_float32(), FULL_SCALE[self.scale])

    def give(self, frames: Float32, sample_rate: int) -> Audio:
        start = self.target_start + self.given_frames
        self.given_frames += len(frames)
        given = self._in_format(frames)
        given.setflags(write=False)
        return unchecked_audio(given, sample_rate, start, given.shape[1], self.sample_format)

    def _in_format(self, frames: Float32) -> Samples:
        if self.sample_format != self.scale:
            return from_float32(frames * np.float32(1.0 / FULL_SCALE[self.scale]), self.sample_format)
        return frames if self.scale == "f32" else rounded(frames, self.scale)


@attrs.define
class AudioResample(Node):
    """Convert audio to another sample rate, keeping its format, channels and position in time.

    The converter is libsamplerate (the default) or libsoxr, which takes an eighth of the CPU time and has some 30 ms of
    delay at 16 kHz. n frames without a gap become exactly ⌊n · target / source⌋, however they are cut. The first of
    them is placed at ⌊start · target / source⌋, and the others follow it. When the input jumps forward by more than one
    frame, the tail of the stretch before is emitted and a new stretch begins, so that no audio is smeared over a gap.

    Input that already has the target rate passes unchanged and without delay. int32 keeps 24 significant bits.
    """

    target_sample_rate: int = parameter(help="sample rate of the output in Hz", above=0, at_most=MAX_SAMPLE_RATE)
    converter: str = parameter(
        "sinc_fastest", help="method of libsamplerate; listed from best to cheapest", choices=LIBSAMPLERATE_CONVERTERS
    )
    backend: str = parameter("libsamplerate", help="library that converts", choices=("libsamplerate", "soxr"))
    quality: str = parameter("HQ", help="quality setting of soxr", choices=SOXR_QUALITIES)
    _format: StreamFormat | None = attrs.field(init=False, default=None, repr=False)
    _stream: RateStream | None = attrs.field(init=False, default=None, repr=False)
    _place: _Place = attrs.field(init=False, factory=lambda: _Place(0, 0, "f32", "f32"), repr=False)

    def __attrs_post_init__(self) -> None:
        if self.backend == "soxr":
            require("soxr", "soxr")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Convert one block of shape (n, channels).

        Returns:
          No block while the filter fills; two blocks when a gap ends one stretch and begins another.

        Raises:
          InvalidInput: the ratio is outside 1/256 to 256, the sample rate or channel count is not the stream's, or the
            block begins before the end of the previous one, or holds NaN or infinity.
        """
        require_finite(item)
        if self._format is None:
            self._require_convertible(item.sample_rate)
        else:
            require_format(item, self._format)
        if not len(item.frames):
            return ()
        if item.sample_rate == self.target_sample_rate:
            if self._format is None:
                self._format = (item.sample_rate, item.channels)
            return (item,)
        place, stream = self._place, self._stream
        if stream is not None and continues(item, place.source_start + place.taken_frames):
            return self._push(item, stream)
        tail = self._tail()
        return (*tail, *self._push(item, self._begin(item)))

    def _require_convertible(self, source: int) -> None:
        target = self.target_sample_rate
        if source > target * MAX_RATIO or target > source * MAX_RATIO:
            raise InvalidInput(
                f"cannot convert {source} Hz to {target} Hz: the rates differ by a factor of more than {MAX_RATIO}"
            )

    def _begin(self, item: Audio) -> RateStream:
        source, target = item.sample_rate, self.target_sample_rate
        self._format = (source, item.channels)
        self._place = _Place(item.start, item.start * target // source, item.sample_format, item.sample_format)
        if self.backend == "soxr":
            self._stream = SoxrStream(source, target, item.channels, self.quality)
        elif self.converter.startswith("sinc"):
            self._stream = SincStream(source, target, item.channels, self.converter)
        else:
            self._stream = InterpolatedStream(source, target, item.channels, line=self.converter == "linear")
        return self._stream

    def _push(self, item: Audio, stream: RateStream) -> tuple[Audio, ...]:
        return self._given(stream.push(self._place.take(item), bound=item.sample_format == "f32"))

    def _tail(self) -> tuple[Audio, ...]:
        return () if self._stream is None else self._given(self._stream.flush())

    def _given(self, frames: Float32) -> tuple[Audio, ...]:
        return (self._place.give(frames, self.target_sample_rate),) if len(frames) else ()

    def finish(self) -> Iterable[Audio]:
        """Emit the filter's tail, so that the length is exact, and forget the stream."""
        tail = self._tail()
        self.close()
        return tail

    def close(self) -> None:
        """Free the library's state."""
        self._stream = self._format = None

    @property
    def delay(self) -> float:
        """Delay of the filter, in seconds; before the source rate is known, the longest for usual rates from 8 kHz."""
        rates = USUAL_RATES if self._format is None else (self._format[0],)
        return max(self._delay_from(rate) for rate in rates)

    def _delay_from(self, source: int) -> float:
        target = self.target_sample_rate
        if source == target or source > target * MAX_RATIO or target > source * MAX_RATIO:
            return 0.0
        if self.backend == "soxr":
            return soxr_delay(source, target, self.quality)
        if self.converter.startswith("sinc"):
            return sinc_delay(source, target, self.converter)
        return 1.0 / source if self.converter == "linear" else 0.0

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the filter's buffers."""
        return 0 if self._stream is None else self._stream.memory_bytes
