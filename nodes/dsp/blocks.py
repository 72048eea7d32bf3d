"""Checks and helpers for the blocks of a stream: one format, no overlap, finite samples, no overflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nodes.items import Audio, Float32, InvalidInput

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
    """Reject a block whose sample rate or channel count is not the stream's.

    Raises:
      InvalidInput: the formats differ.
    """
    rate, channels = expected
    if audio.sample_rate != rate or audio.channels != channels:
        raise InvalidInput(
            f"the stream is {rate} Hz with {channels} channels,"
            f" this block is {audio.sample_rate} Hz with {audio.channels}"
        )


def continues(audio: Audio, expected: int) -> bool:
    """Return True if a block continues the stream, False if there is a gap before it.

    A difference of one frame is not a gap, because a rate conversion rounds positions.

    Args:
      audio: The block.
      expected: Position just after the stream's last frame.

    Raises:
      InvalidInput: the block begins more than one frame before `expected`.
    """
    if audio.start < expected - 1:
        raise InvalidInput(f"the block starts at frame {audio.start}, the stream is at frame {expected}")
    return audio.start <= expected + 1


def require_order(blocks: Iterable[Audio], expected: StreamFormat | None, stop: int) -> None:
    """Reject blocks that differ in format, or of which one begins before the end of the previous one.

    Args:
      blocks: Blocks of one row, in order.
      expected: Format of the stream; None before its first block.
      stop: Position just after the stream's last frame.

    Raises:
      InvalidInput: a block has another format, or begins too early.
    """
    for block in blocks:
        expected = expected or (block.sample_rate, block.channels)
        require_format(block, expected)
        if block.start < stop:
            raise InvalidInput(f"the block starts at frame {block.start}, the stream is at frame {stop}")
        stop = block.stop


def require_finite(audio: Audio) -> None:
    """Reject NaN and infinity, for nodes that compute with samples.

    Raises:
      InvalidInput: a float32 sample is not finite.
    """
    if audio.sample_format != "f32":
        return
    finite = np.isfinite(audio.frames)
    if np.count_nonzero(finite) < finite.size:  # faster than all()
        raise InvalidInput("the block holds samples that are not finite")


def bounded(frames: Floats) -> Floats:
    """Clip samples, in place, to the range of float32; NaN stays NaN."""
    np.minimum(frames, _LARGEST, out=frames)
    np.maximum(frames, -_LARGEST, out=frames)
    return frames


def scaled(frames: Float32, factor: float) -> Float32:
    """Multiply samples by a factor, clipping to the range of float32."""
    with np.errstate(over="ignore"):
        product: Float32 = np.multiply(frames, np.float32(factor), dtype=np.float32)
    return bounded(product) if abs(factor) > 1.0 else product


def split(audio: Audio, position: int) -> tuple[Audio, Audio]:
    """Split a block at a position: views of the frames before it and of those from it on, at their own positions."""
    at = min(max(position - audio.start, 0), len(audio.frames))
    before = Audio(audio.frames[:at], audio.sample_rate, audio.start)
    return before, Audio(audio.frames[at:], audio.sample_rate, audio.start + at)


def mono(audio: Audio) -> Float32:
    """Return the mean of the channels as float32, shape (n_frames,); for one channel a view."""
    frames = audio.as_float32()
    if audio.channels == 1:
        return frames[:, 0]
    mean: Float32 = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean
