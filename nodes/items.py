"""Items: the audio and data that travel between nodes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal, cast

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FULL_SCALE",
    "MAX_CHANNELS",
    "MAX_SAMPLE_RATE",
    "Audio",
    "Data",
    "Float32",
    "InvalidInput",
    "Item",
    "Kind",
    "SampleFormat",
    "Samples",
    "from_float32",
    "rounded",
    "to_float32",
    "unchecked_audio",
]

MAX_CHANNELS = 128
MAX_SAMPLE_RATE = 768_000

Samples = NDArray[Any]
Float32 = NDArray[np.float32]
SampleFormat = Literal["f32", "i16", "i32"]

_FLOAT32, _INT16, _INT32 = np.dtype(np.float32), np.dtype(np.int16), np.dtype(np.int32)
_FORMATS: Mapping[Any, SampleFormat] = {_FLOAT32: "f32", _INT16: "i16", _INT32: "i32"}

# Constants are arrays without dimensions, because a ufunc must convert a scalar in each call, which is slower.
_I16_STEP, _I32_STEP = np.array(2.0**-15, np.float32), np.array(2.0**-31, np.float32)
_I16_SCALE, _I32_SCALE = np.array(2.0**15, np.float32), np.array(2.0**31, np.float64)
_I16_RANGE = np.array(-(2.0**15), np.float32), np.array(2.0**15 - 1, np.float32)
_I32_RANGE = np.array(-(2.0**31), np.float64), np.array(2.0**31 - 1, np.float64)

FULL_SCALE: Mapping[SampleFormat, float] = {"f32": 1.0, "i16": 2.0**15, "i32": 2.0**31}
"""Sample format → number that stands for an amplitude of 1.0."""


class Kind(enum.Flag):
    """Kinds of item on an edge."""

    AUDIO = enum.auto()
    DATA = enum.auto()
    BOTH = AUDIO | DATA

    def __str__(self) -> str:
        return " and ".join(kind.name.lower() for kind in (Kind.AUDIO, Kind.DATA) if kind in self and kind.name)


class InvalidInput(Exception):
    """A node rejects an item: the row gets an error, and the session continues.

    Raise it before the node's state changes.
    """


def to_float32(frames: Samples) -> Float32:
    """Scale samples to float32 in [-1, 1]: int16 by 2^-15, int32 by 2^-31 (24 significant bits are kept).

    Args:
      frames: Float32, int16 or int32, any shape; float32 is returned unchanged, without a copy.
    """
    if frames.dtype == _FLOAT32:
        same: Float32 = frames
        return same
    scaled: Float32 = frames.astype(np.float32)
    scaled *= _I16_STEP if frames.dtype == _INT16 else _I32_STEP
    return scaled


def from_float32(frames: Float32, sample_format: SampleFormat) -> Samples:
    """Scale float32 samples to a format; integers are rounded to nearest and clipped at full scale, never wrapped."""
    if sample_format == "f32":
        return np.asarray(frames, dtype=np.float32)
    return rounded(frames * (_I16_SCALE if sample_format == "i16" else _I32_SCALE), sample_format)


def rounded(frames: Samples, sample_format: SampleFormat) -> Samples:
    """Convert samples that are already in the scale of an integer format: round to nearest, clip at full scale."""
    (lowest, highest), dtype = (_I16_RANGE, _INT16) if sample_format == "i16" else (_I32_RANGE, _INT32)
    given = np.rint(frames.astype(lowest.dtype, copy=False))
    np.minimum(given, highest, out=given)  # a third faster than clip()
    np.maximum(given, lowest, out=given)
    integers: Samples = given.astype(dtype)
    return integers


def _read_only(frames: Any) -> Samples:
    array: Samples = frames if type(frames) is np.ndarray else np.asarray(frames)
    if array.flags.writeable:
        array = array.view()
        array.setflags(write=False)
    return array


@attrs.define(eq=False, repr=False, init=False)
class _Fields:
    """Mutable stand-in for `Audio`, which it becomes by setting `__class__`: faster than filling a frozen object."""

    frames: Samples
    sample_rate: int
    start: int
    channels: int = attrs.field(init=False)
    sample_format: SampleFormat = attrs.field(init=False)
    _float32: Float32 | None = attrs.field(init=False)


@attrs.frozen(eq=False, repr=False, init=False)
class Audio(_Fields):
    """A block of audio at its position in the stream.

    Attributes:
      frames: Shape (n, channels), float32 nominally in [-1, 1], int16 or int32; read-only. n may be 0.
      sample_rate: Rate in Hz, 1 to 768,000.
      start: Position of the first frame since the session began, in frames at this block's sample rate.
      channels: Number of channels, 1 to 128.
      sample_format: Format of the frames: "f32", "i16" or "i32".

    Raises:
      ValueError: the shape, dtype, channel count or sample rate is not one of these.
    """

    def __new__(cls, frames: Any, sample_rate: int, start: int = 0) -> Audio:
        array = _read_only(frames)
        shape, dtype = array.shape, array.dtype
        if len(shape) != 2 or not 1 <= shape[1] <= MAX_CHANNELS:
            raise ValueError(f"frames must have shape (n, 1..{MAX_CHANNELS}), got {shape}")
        sample_format = "i16" if dtype is _INT16 else _FORMATS.get(dtype)  # faster than hashing it, in the usual case
        if sample_format is None:
            raise ValueError(f"samples must be float32, int16 or int32, got {dtype}")
        if not 0 < sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample rate must be 1 to {MAX_SAMPLE_RATE} Hz, got {sample_rate}")
        return unchecked_audio(array, sample_rate, start, shape[1], sample_format)

    def __reduce__(self) -> tuple[Any, ...]:
        return Audio, (self.frames, self.sample_rate, self.start)

    def __repr__(self) -> str:
        return (
            f"<Audio {len(self.frames)}x{self.channels} {self.sample_format}"
            f" {self.sample_rate} Hz from frame {self.start}>"
        )

    @property
    def stop(self) -> int:
        """Position just after the last frame, in frames."""
        return self.start + len(self.frames)

    @property
    def samples(self) -> int:
        """Number of samples over all channels."""
        return int(self.frames.size)

    def as_float32(self) -> Float32:
        """Return the samples as read-only float32, shape (n, channels); converted once and shared by all callers."""
        if self._float32 is None:
            converted = to_float32(self.frames)
            converted.setflags(write=False)
            object.__setattr__(self, "_float32", converted)
            return converted
        return self._float32

    def derive(self, frames: Float32, *, sample_rate: int | None = None, start: int | None = None) -> Audio:
        """Make a block in the sample format of this one, such as a node's output.

        Args:
          frames: Float32, shape (n, channels); values beyond full scale are clipped in integer formats.
          sample_rate: Rate in Hz; by default that of this block.
          start: Position in frames at that rate; by default that of this block.
        """
        return Audio(
            from_float32(frames, self.sample_format),
            self.sample_rate if sample_rate is None else sample_rate,
            self.start if start is None else start,
        )

    def placed(self, start: int) -> Audio:
        """Return a block with the same samples (shared, not copied) at another position."""
        return unchecked_audio(self.frames, self.sample_rate, start, self.channels, self.sample_format, self._float32)


def unchecked_audio(
    frames: Samples,
    sample_rate: int,
    start: int,
    channels: int,
    sample_format: SampleFormat,
    converted: Float32 | None = None,
) -> Audio:
    """Make a block without checks; the caller guarantees read-only frames of this format and number of channels.

    `converted` is the result of `as_float32`, if the caller has it already.
    """
    block = _Fields()
    block.frames = frames
    block.sample_rate = sample_rate
    block.start = start
    block.channels = channels
    block.sample_format = sample_format
    block._float32 = converted
    block.__class__ = Audio
    return cast(Audio, block)


@attrs.frozen
class Data:
    """A JSON object about a moment or a stretch of the stream.

    Attributes:
      value: Object that `json.dumps` can encode, with str keys and without NaN or Infinity.
      at: Beginning, in seconds since the session began; None if the data concern no moment.
      until: End, in seconds since the session began.
    """

    value: Mapping[str, Any]
    at: float | None = None
    until: float | None = None


Item = Audio | Data
