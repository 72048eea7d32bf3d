"""Streaming sample rate conversion of float32 blocks, for AudioResample and every node that works at a fixed rate.

Rules kept here by every `RateStream`, which the libraries alone do not keep:

- The output samples are the same however the input is cut.
- n frames of input yield exactly ⌊n · target / source⌋ frames by the end of `flush`.
- Finite input yields finite output: an overshoot beyond float32's range is clipped to it.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np
import samplerate

from nodes.dsp.blocks import bounded
from nodes.items import Float32
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
"""Greatest factor by which libsamplerate raises or lowers a rate."""

USUAL_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
"""Source rates in Hz that a stated delay covers before the source is known."""

SOXR_QUALITIES = ("QQ", "LQ", "MQ", "HQ", "VHQ")

_SINC_REACH = {"sinc_fastest": 2464 / 128, "sinc_medium": 22438 / 491, "sinc_best": 340239 / 2381}
"""Half the length of libsamplerate's filters, in frames at the lower of the two rates (its *_coeffs.h)."""

_SINC_STEPS = {"sinc_fastest": 128, "sinc_medium": 491, "sinc_best": 2381}
"""Filter coefficients from one frame to the next (from the same files)."""

_IGNORED_DIFFERENCE = 1e-11
"""Difference between two ratios that libsamplerate ignores (src_sinc.c: up to 1e-10)."""

LIBSAMPLERATE_CONVERTERS = (*_SINC_REACH, "zero_order_hold", "linear")


class RateStream(Protocol):
    """A rate converter with memory, for one stream of one format."""

    def push(self, frames: Float32, *, bound: bool = True) -> Float32:
        """Take frames at the source rate; return frames at the target rate, shape (m, channels); m may be 0.

        Args:
          frames: Finite, shape (n, channels).
          bound: Clip values that overflow float32; a caller that clips to integers does not need it.
        """
        ...

    def flush(self) -> Float32:
        """Return the rest, so that n frames yield ⌊n · target / source⌋; the stream cannot be used afterwards."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Number of bytes held."""
        ...


class _Filter:
    """Base of the converters that are filters: pushes zeros at the end until the exact length has come out."""

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
    """libsamplerate's band-limited converters: equal to its one-shot call, including the tail that streaming drops.

    The binding makes room for ⌈n · ratio⌉ frames of output. When this room is full, the library stops, even if the last
    frames of input are not in its ring buffer yet because they reached the buffer's end; the binding discards those
    frames. So a block that may fill the room is pushed in pieces that cannot fill it, and in pieces so short that they
    always fit. Only a block that yields a whole number of frames, as usual blocks do, is pushed at once. It gets room
    for one more frame, because the binding is passed a ratio that is higher by a difference that the library ignores.
    """

    def __init__(self, source: int, target: int, channels: int, converter: str = "sinc_fastest") -> None:
        super().__init__(source, target, channels)
        reach = (_SINC_REACH[converter] + 2 / _SINC_STEPS[converter]) * max(1.0, source / target)
        self._behind_frames = round(reach) + 1  # input that the library holds back (src_sinc.c)
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
            converted = self._process(frames, self._ratio + _IGNORED_DIFFERENCE)
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
        """Number of bytes of the library's ring buffer, which is sized for the greatest ratio (src_sinc.c)."""
        return 4 * max(4096, 3 * round(self._reach * MAX_RATIO + 1)) * self._channels


@functools.lru_cache(maxsize=4096)
def _pieces(phase: int, frames: int, source: int, target: int, short: int) -> tuple[int, ...]:
    """Cut a block so that each piece, except a short one, yields fewer frames than ⌈its length · target / source⌉.

    Args:
      phase: Distance from an output frame to the next input frame, in 1/source of the distance of two output frames.
      frames: Length of the block.
      source: Source rate in Hz, more than `target`.
      target: Target rate in Hz.
      short: Length up to which a piece may fill its room.

    Returns:
      Lengths of the pieces, in order.
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
    """Return the delay of a `SincStream` in seconds: half its filter, in frames of the lower rate."""
    stretched = _SINC_REACH[converter] / min(1.0, target / source)
    return (math.ceil(stretched) + 1) / source


class SoxrStream(_Filter):
    """libsoxr's converter: less CPU time than libsamplerate's, but more delay."""

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
        """Number of bytes of the samples held back; the library does not report what it adds to that."""
        return 4 * self._held_frames * self._channels


@functools.lru_cache(maxsize=256)
def soxr_delay(source: int, target: int, quality: str = "HQ") -> float:
    """Return the greatest delay of a `SoxrStream` in seconds, measured on silence, once for each conversion."""
    stream = SoxrStream(source, target, 1, quality)
    step = np.zeros((max(1, source // 1000), 1), np.float32)
    most = 0
    for _ in range(max(300, 4096 // len(step))):
        stream.push(step)
        most = max(most, stream._held_frames)
    return (most + 1) / target


class InterpolatedStream:
    """Conversion by the last input frame before each output frame (hold), or by a line between its two neighbours.

    Frame k of the output lies at k · source / target of the input, in integer arithmetic. libsamplerate has the same
    two methods, but its result depends on the size of the first block, so they are computed here. After the last frame
    a line continues level. There is no low-pass filter: frequencies above half the target rate are mirrored.
    """

    def __init__(self, source: int, target: int, channels: int, *, line: bool) -> None:
        self._source, self._target, self._line = source, target, line
        self._kept = np.zeros((0, channels), np.float32)
        self._kept_from = 0
        self._given_frames = 0

    def push(self, frames: Float32, *, bound: bool = True) -> Float32:
        del bound  # a value between two samples cannot overflow
        self._kept = np.concatenate((self._kept, frames)) if len(self._kept) else frames
        taken = self._kept_from + len(self._kept)
        reach = taken - 1 if self._line else taken  # a line also needs the frame after
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
        """Return the output frames up to the number `until`, except those returned before."""
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
        """Number of bytes of the frames that the next output still needs."""
        return self._kept.nbytes
