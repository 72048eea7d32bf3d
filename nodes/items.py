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

# Constants are arrays of no dimension: a ufunc takes them quicker than scalars, which it has to convert each time.
_I16_STEP, _I32_STEP = np.array(2.0**-15, np.float32), np.array(2.0**-31, np.float32)
_I16_SCALE, _I32_SCALE = np.array(2.0**15, np.float32), np.array(2.0**31, np.float64)
_I16_RANGE = np.array(-(2.0**15), np.float32), np.array(2.0**15 - 1, np.float32)
_I32_RANGE = np.array(-(2.0**31), np.float64), np.array(2.0**31 - 1, np.float64)

FULL_SCALE: Mapping[SampleFormat, float] = {"f32": 1.0, "i16": 2.0**15, "i32": 2.0**31}
"""The number that an amplitude of 1.0 is in each format."""


class Kind(enum.Flag):
    """What travels on an edge."""

    AUDIO = enum.auto()
    DATA = enum.auto()
    BOTH = AUDIO | DATA

    def __str__(self) -> str:
        return " and ".join(kind.name.lower() for kind in (Kind.AUDIO, Kind.DATA) if kind in self and kind.name)


class InvalidInput(Exception):
    """A node refuses an item: this row gets an error, the session goes on.

    Raise it before the node's state has changed.
    """


def to_float32(frames: Samples) -> Float32:
    """Scale samples to float32 in [-1, 1): i16 by 2^15, i32 by 2^31 (24 significant bits are kept).

    Args:
      frames: Float32, int16 or int32, any shape. float32 is returned as it is, without a copy.
    """
    if frames.dtype == _FLOAT32:
        same: Float32 = frames
        return same
    scaled: Float32 = frames.astype(np.float32)
    scaled *= _I16_STEP if frames.dtype == _INT16 else _I32_STEP
    return scaled


def from_float32(frames: Float32, sample_format: SampleFormat) -> Samples:
    """Scale float32 samples to a format, rounding to nearest and clipping at full scale, not wrapping."""
    if sample_format == "f32":
        return np.asarray(frames, dtype=np.float32)
    return rounded(frames * (_I16_SCALE if sample_format == "i16" else _I32_SCALE), sample_format)


def rounded(frames: Samples, sample_format: SampleFormat) -> Samples:
    """Round samples that have an integer format's own scale to it: to nearest, clipping at full scale."""
    (lowest, highest), dtype = (_I16_RANGE, _INT16) if sample_format == "i16" else (_I32_RANGE, _INT32)
    given = np.rint(frames.astype(lowest.dtype, copy=False))
    np.minimum(given, highest, out=given)  # a third quicker than clip()
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
    """An `Audio` while it can be set: to freeze it at the end, by its class, is quicker than to set what is frozen."""

    frames: Samples
    sample_rate: int
    start: int
    channels: int = attrs.field(init=False)
    sample_format: SampleFormat = attrs.field(init=False)
    _float32: Float32 | None = attrs.field(init=False)


@attrs.frozen(eq=False, repr=False, init=False)
class Audio(_Fields):
    """A block of audio at a position of its stream.

    Attributes:
      frames: Shape (n, channels), float32 nominally in [-1, 1], int16 or int32; read-only. n may be 0.
      sample_rate: In Hz.
      start: Position of the first frame, in frames at this block's own rate, since the session began.
      channels: How many, 1 to 128.
      sample_format: Which of "f32", "i16" and "i32" the frames are.

    Raises:
      ValueError: the shape, dtype, channel count (1 to 128) or sample rate is not one of these.
    """

    def __new__(cls, frames: Any, sample_rate: int, start: int = 0) -> Audio:
        array = _read_only(frames)
        shape, dtype = array.shape, array.dtype
        if len(shape) != 2 or not 1 <= shape[1] <= MAX_CHANNELS:
            raise ValueError(f"frames must have shape (n, 1..{MAX_CHANNELS}), got {shape}")
        sample_format = "i16" if dtype is _INT16 else _FORMATS.get(dtype)  # quicker than to hash the usual one
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
        """The samples as read-only float32, shape (n_frames, channels); converted once, shared by all."""
        if self._float32 is None:
            converted = to_float32(self.frames)
            converted.setflags(write=False)
            object.__setattr__(self, "_float32", converted)
            return converted
        return self._float32

    def derive(self, frames: Float32, *, sample_rate: int | None = None, start: int | None = None) -> Audio:
        """New audio in this block's sample format: what a node gives back.

        Args:
          frames: Float32, shape (n, channels); values beyond full scale are clipped in integer formats.
          sample_rate: In Hz; this block's if not given.
          start: In frames at that rate; this block's if not given.
        """
        return Audio(
            from_float32(frames, self.sample_format),
            self.sample_rate if sample_rate is None else sample_rate,
            self.start if start is None else start,
        )

    def placed(self, start: int) -> Audio:
        """The same samples (shared, not copied) at another position."""
        return unchecked_audio(self.frames, self.sample_rate, start, self.channels, self.sample_format, self._float32)


def unchecked_audio(
    frames: Samples,
    sample_rate: int,
    start: int,
    channels: int,
    sample_format: SampleFormat,
    converted: Float32 | None = None,
) -> Audio:
    """Audio of what is known to be right: frames that are read-only, and of this format and number of channels.

    `converted` is what `as_float32` gives, if it is there already.
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
    """A JSON object, for a moment or a stretch of the stream.

    Attributes:
      value: What `json.dumps` takes: str keys; no NaN or Infinity.
      at: Where it begins, in seconds since the session began; None if it belongs to no moment.
      until: Where it ends, in seconds.
    """

    value: Mapping[str, Any]
    at: float | None = None
    until: float | None = None


Item = Audio | Data
