"""What several nodes ask of a stream: one format, no overlap, finite samples, no overflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nodes.contract import Audio, Float32, InvalidInput

__all__ = [
    "StreamFormat",
    "bounded",
    "continues",
    "mono",
    "require_finite",
    "require_format",
    "require_order",
    "scaled",
    "split",
]

_LARGEST = np.finfo(np.float32).max

Floats = TypeVar("Floats", NDArray[np.float32], NDArray[np.float64])

StreamFormat = tuple[int, int]
"""Sample rate in Hz and channel count."""


def require_format(audio: Audio, expected: StreamFormat) -> None:
    """Refuse a block whose rate or channel count is not the stream's.

    Raises:
      InvalidInput: they differ.
    """
    rate, channels = expected
    if audio.sample_rate != rate or audio.channels != channels:
        raise InvalidInput(
            f"the stream is {rate} Hz with {channels} channels,"
            f" this block is {audio.sample_rate} Hz with {audio.channels}"
        )


def continues(audio: Audio, expected: int) -> bool:
    """Whether a block goes on where the stream stood; False says that there is a gap before it.

    One frame off is not a gap: positions that came through a change of rate are rounded.

    Raises:
      InvalidInput: the block begins before `expected`, the position where the stream stood.
    """
    if audio.start < expected - 1:
        raise InvalidInput(f"the block starts at frame {audio.start}, the stream is at frame {expected}")
    return audio.start <= expected + 1


def require_order(blocks: Iterable[Audio], expected: StreamFormat | None, stop: int) -> None:
    """Refuse blocks that are not all of one format, or of which one begins before the end of the one before.

    Args:
      blocks: What came together.
      expected: The stream's format; None before its first block.
      stop: The position where the stream stood.

    Raises:
      InvalidInput: they are not.
    """
    for block in blocks:
        expected = expected or (block.sample_rate, block.channels)
        require_format(block, expected)
        if block.start < stop:
            raise InvalidInput(f"the block starts at frame {block.start}, the stream is at frame {stop}")
        stop = block.stop


def require_finite(audio: Audio) -> None:
    """Refuse NaN and infinity, for nodes that cannot express them.

    Raises:
      InvalidInput: a float32 sample is not finite.
    """
    if audio.sample_format != "f32":
        return
    finite = np.isfinite(audio.frames)
    if np.count_nonzero(finite) < finite.size:  # quicker than all()
        raise InvalidInput("the block holds samples that are not finite")


def bounded(frames: Floats) -> Floats:
    """Clip, in place, what overflowed float32 to its largest value; NaN stays NaN."""
    np.minimum(frames, _LARGEST, out=frames)
    np.maximum(frames, -_LARGEST, out=frames)
    return frames


def scaled(frames: Float32, factor: float) -> Float32:
    """The samples times a factor, clipped to float32's range."""
    with np.errstate(over="ignore"):
        product: Float32 = np.multiply(frames, np.float32(factor), dtype=np.float32)
    return bounded(product) if abs(factor) > 1.0 else product


def split(audio: Audio, position: int) -> tuple[Audio, Audio]:
    """The frames before a position, and those from there on; views, with the positions they have."""
    at = min(max(position - audio.start, 0), len(audio.frames))
    before = Audio(audio.frames[:at], audio.sample_rate, audio.start)
    return before, Audio(audio.frames[at:], audio.sample_rate, audio.start + at)


def mono(audio: Audio) -> Float32:
    """The mean of the channels as float32, shape (n_frames,); for one channel a view."""
    frames = audio.as_float32()
    if audio.channels == 1:
        return frames[:, 0]
    mean: Float32 = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean
