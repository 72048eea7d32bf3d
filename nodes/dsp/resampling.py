"""Streaming sample rate conversion of float32 blocks: what AudioResample and VAD stand on.

Every `RateStream` keeps three rules that the libraries alone do not: the same samples however the input is
cut; exactly ⌊n · target / source⌋ frames after `flush`; finite output for finite input (an overshoot beyond
float32's range is clipped to it).
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np
import samplerate

from nodes.contract import Float32
from nodes.dsp.blocks import bounded
from nodes.libraries.extras import require

__all__ = [
    "LIBSAMPLERATE_CONVERTERS",
    "MAX_RATIO",
    "SOXR_QUALITIES",
    "USUAL_RATES",
    "InterpolatedStream",
    "RateStream",
    "SincStream",
    "SoxrStream",
    "sinc_delay",
    "soxr_delay",
]

MAX_RATIO = 256
"""libsamplerate converts by factors from 1/256 to 256."""

USUAL_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
"""Sources for which a stated delay is a bound before the source is known."""

SOXR_QUALITIES = ("QQ", "LQ", "MQ", "HQ", "VHQ")

_SINC_REACH = {"sinc_fastest": 2464 / 128, "sinc_medium": 22438 / 491, "sinc_best": 340239 / 2381}
"""Half the length of libsamplerate's filters, in frames at the lower of the two rates (its *_coeffs.h)."""

_SINC_STEPS = {"sinc_fastest": 128, "sinc_medium": 491, "sinc_best": 2381}
"""Coefficients from one frame to the next, as they stand there."""

_UNHEEDED = 1e-11
"""A difference of ratios that libsamplerate takes for none (src_sinc.c: up to 1e-10)."""

LIBSAMPLERATE_CONVERTERS = (*_SINC_REACH, "zero_order_hold", "linear")


class RateStream(Protocol):
    """A rate converter with memory, for one stream of one format."""

    def push(self, frames: Float32, *, bound: bool = True) -> Float32:
        """Take shape (n, channels) at the source rate, give (m, channels) at the target rate; m may be 0.

        Args:
          frames: Finite.
          bound: Clip what overflows float32; not needed by a caller who clips to integers anyway.
        """
        ...

    def flush(self) -> Float32:
        """Give the rest, so that exactly ⌊n · target / source⌋ frames came of n; the stream is used up."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        ...


class _Filter:
    """Counts frames, and pushes zeros through a filter at the end until the exact length has come out."""

    def __init__(self, source: int, target: int, channels: int) -> None:
        self._source, self._target, self._channels = source, target, channels
        self._taken_frames = 0
        self._given_frames = 0

    @property
    def _held_frames(self) -> int:
        return self._taken_frames * self._target // self._source - self._given_frames

    def _convert(self, frames: Float32) -> Float32:
        raise NotImplementedError

    def push(self, frames: Float32, *, bound: bool = True) -> Float32:
        converted = self._convert(frames)
        self._taken_frames += len(frames)
        self._given_frames += len(converted)
        return bounded(converted) if bound else converted

    def flush(self) -> Float32:
        wanted, parts = self._held_frames, [np.zeros((0, self._channels), np.float32)]
        padding = np.zeros((max(64, 2 * wanted * self._source // self._target), self._channels), np.float32)
        while wanted > 0:
            part = bounded(self._convert(padding))[:wanted]
            parts.append(part)
            wanted -= len(part)
        return np.concatenate(parts)


class SincStream(_Filter):
    """libsamplerate's band-limited converters: equal to its one-shot call, with the tail that streaming drops.

    The binding makes room for ⌈n · ratio⌉ frames of output. When that is full the library stops, also with the last
    frames of the input not yet in its ring buffer, whose end came just there; the binding throws those away. So a block
    that may fill the room is given in pieces: those that cannot fill it, and those so short that they always fit. Only
    a block that makes a whole number of frames, as the usual ones do, is given at once, with room for one more: the
    binding reckons with a ratio that is higher by less than the library heeds.
    """

    def __init__(self, source: int, target: int, channels: int, converter: str = "sinc_fastest") -> None:
        super().__init__(source, target, channels)
        reach = (_SINC_REACH[converter] + 2 / _SINC_STEPS[converter]) * max(1.0, source / target)
        self._behind_frames = round(reach) + 1  # what the library holds back of its input (src_sinc.c)
        self._fed_frames = 0
        self._ratio = target / source
        self._reach = _SINC_REACH[converter]
        self._short_frames = self._behind_frames - source // target - 2
        self._process = samplerate.Resampler(converter, channels).process

    def _convert(self, frames: Float32) -> Float32:
        if self._target >= self._source or not len(frames):
            converted: Float32 = self._process(frames, self._ratio)
            return converted
        held = self._fed_frames - self._behind_frames
        if held >= 0 and not len(frames) * self._target % self._source:
            self._fed_frames += len(frames)
            converted = self._process(frames, self._ratio + _UNHEEDED)
            return converted
        parts, at = [], 0
        for size in self._sizes(held, len(frames)):
            parts.append(self._process(frames[at : at + size], self._ratio))
            at += size
        self._fed_frames += at
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _sizes(self, held: int, frames: int) -> tuple[int, ...]:
        source, target = self._source, self._target
        if held >= 0:
            return _pieces(held * target % source, frames, source, target, self._short_frames)
        if held + frames <= 0:
            return (frames,)
        return (-held, *_pieces(0, frames + held, source, target, self._short_frames))

    @property
    def memory_bytes(self) -> int:
        """The library's ring buffer, sized for the greatest ratio whatever the ratio is (src_sinc.c)."""
        return 4 * max(4096, 3 * round(self._reach * MAX_RATIO + 1)) * self._channels


@functools.lru_cache(maxsize=4096)
def _pieces(phase: int, frames: int, source: int, target: int, short: int) -> tuple[int, ...]:
    """Cut a block so that each piece but short ones gives fewer frames than ⌈its length · target / source⌉.

    Args:
      phase: Where the next frame of output lies, in 1/source of the distance between two.
      frames: The block's length.
      source: Hz, more than `target`.
      target: Hz.
      short: A piece of so many frames may fill its room.
    """
    pieces = []
    while frames > short:
        longest = (size for size in range(frames, frames - short, -1) if 0 < size * target % source <= source - phase)
        size = next(longest, 1) if phase else 1
        pieces.append(size)
        frames -= size
        phase = (phase + size * target) % source
    return (*pieces, frames) if frames else tuple(pieces)


def sinc_delay(source: int, target: int, converter: str = "sinc_fastest") -> float:
    """How many seconds a `SincStream` holds back: half its filter, in frames of the lower rate."""
    stretched = _SINC_REACH[converter] / min(1.0, target / source)
    return (math.ceil(stretched) + 1) / source


class SoxrStream(_Filter):
    """libsoxr: less CPU time than libsamplerate, but more delay."""

    def __init__(self, source: int, target: int, channels: int, quality: str = "HQ") -> None:
        super().__init__(source, target, channels)
        self._resampler = require("soxr", "soxr").ResampleStream(
            source, target, channels, dtype="float32", quality=quality
        )

    def _convert(self, frames: Float32) -> Float32:
        converted: Float32 = self._resampler.resample_chunk(frames)
        return converted

    @property
    def memory_bytes(self) -> int:
        """The samples held back; what the library adds is not told by it."""
        return 4 * self._held_frames * self._channels


@functools.lru_cache(maxsize=256)
def soxr_delay(source: int, target: int, quality: str = "HQ") -> float:
    """How many seconds a `SoxrStream` holds back at most: measured on silence, once for each conversion."""
    stream = SoxrStream(source, target, 1, quality)
    step = np.zeros((max(1, source // 1000), 1), np.float32)
    most = 0
    for _ in range(max(300, 4096 // len(step))):
        stream.push(step)
        most = max(most, stream._held_frames)
    return (most + 1) / target


class InterpolatedStream:
    """Each output frame from one or two input frames: the last one before it (hold), or a line between neighbours.

    Frame k of the output lies at k · source / target of the input, in integer arithmetic. libsamplerate has the same
    two methods, but there the result depends on the size of the first block, so they are computed here. After the
    last frame a line goes on level. There is no low-pass filter: what lies above half the target rate is mirrored.
    """

    def __init__(self, source: int, target: int, channels: int, *, line: bool) -> None:
        self._source, self._target, self._line = source, target, line
        self._kept = np.zeros((0, channels), np.float32)
        self._kept_from = 0
        self._given_frames = 0

    def push(self, frames: Float32, *, bound: bool = True) -> Float32:
        del bound  # between two samples nothing overflows
        self._kept = np.concatenate((self._kept, frames)) if len(self._kept) else frames
        taken = self._kept_from + len(self._kept)
        reach = taken - 1 if self._line else taken  # a line needs the frame after, too
        possible = -(-reach * self._target // self._source) if reach > 0 else 0
        given = self._take(min(possible, taken * self._target // self._source))
        unused = min(len(self._kept), self._given_frames * self._source // self._target - self._kept_from)
        self._kept = self._kept[unused:].copy()
        self._kept_from += unused
        return given

    def flush(self) -> Float32:
        taken = self._kept_from + len(self._kept)
        self._kept = np.concatenate((self._kept, self._kept[-1:]))
        return self._take(taken * self._target // self._source)

    def _take(self, until: int) -> Float32:
        """Output frames up to the number `until`, of which the first `given` have gone out before."""
        scaled = np.arange(self._given_frames, until, dtype=np.int64) * self._source
        self._given_frames = max(until, self._given_frames)
        before, offset = np.divmod(scaled, self._target)
        before -= self._kept_from
        if not self._line:
            return self._kept[before]
        share = (offset / self._target).astype(np.float32)[:, None]
        between: Float32 = self._kept[before] * (1 - share) + self._kept[before + 1] * share
        return between

    @property
    def memory_bytes(self) -> int:
        """The frames that the next output still needs."""
        return self._kept.nbytes
