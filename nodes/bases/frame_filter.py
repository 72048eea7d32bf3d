"""Adapter that lets a processor of fixed frames at a fixed rate work on audio of any rate, in blocks of any length."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nodes.contract import Float32, InvalidInput
from nodes.dsp.resampling import MAX_RATIO, USUAL_RATES, SincStream, sinc_delay
from nodes.dsp.windows import Framing

__all__ = ["FrameFilter", "FrameProcessor", "framewise_delay", "require_convertible"]


class FrameProcessor(Protocol):
    """A processor of frames of a fixed length at a fixed rate.

    Attributes:
      sample_rate: Rate of the frames in Hz.
      frame_length: Length of a frame, in samples per channel.
      delay_frames: Lag of the output behind the input, in samples per channel.
    """

    sample_rate: int
    frame_length: int
    delay_frames: int

    def process(self, frame: Float32) -> Float32:
        """Take one frame of shape (frame_length, channels) and return one."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Number of bytes held."""
        ...


class FrameFilter:
    """A `Filter` around a `FrameProcessor`: converts the rate both ways, cuts frames, and compensates the delay."""

    def __init__(self, sample_rate: int, channels: int, processor: FrameProcessor) -> None:
        self._processor, inner_rate = processor, processor.sample_rate
        converted = sample_rate != inner_rate
        self._there = SincStream(sample_rate, inner_rate, channels) if converted else None
        self._back = SincStream(inner_rate, sample_rate, channels) if converted else None
        self._framing = Framing(processor.frame_length, processor.frame_length, 0)
        self._channels = channels
        self._to_drop = processor.delay_frames
        self._taken_frames = self._given_frames = 0

    def push(self, frames: Float32) -> Float32:
        self._taken_frames += len(frames)
        processed = self._process(frames if self._there is None else self._there.push(frames))
        given = processed if self._back is None else self._back.push(processed)
        self._given_frames += len(given)
        return given

    def flush(self) -> Float32:
        held = self._taken_frames - self._given_frames
        padding = np.zeros((self._processor.delay_frames + self._processor.frame_length, self._channels), np.float32)
        rest = padding if self._there is None else np.concatenate((self._there.flush(), padding))
        processed = self._process(rest)
        if self._back is not None:
            processed = np.concatenate((self._back.push(processed), self._back.flush()))
        return processed[:held]

    def _process(self, frames: Float32) -> Float32:
        """Return the output of the frames that these samples complete, without the processor's delay."""
        _, samples, count = self._framing.push(frames)
        length = self._processor.frame_length
        processed = np.empty((count * length, self._channels), np.float32)
        for at in range(0, len(processed), length):
            processed[at : at + length] = self._processor.process(samples[at : at + length])
        dropped = min(self._to_drop, len(processed))
        self._to_drop -= dropped
        return processed[dropped:]

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the incomplete frame, the processor's state and the converters' buffers."""
        converters = sum(stream.memory_bytes for stream in (self._there, self._back) if stream is not None)
        return self._framing.memory_bytes + self._processor.memory_bytes + converters


def require_convertible(sample_rate: int, inner_rate: int) -> None:
    """Reject a sample rate that cannot be converted to a processor's.

    Raises:
      InvalidInput: the rates differ by a factor of more than 256.
    """
    if not inner_rate / MAX_RATIO <= sample_rate <= inner_rate * MAX_RATIO:
        raise InvalidInput(f"cannot convert {sample_rate} Hz to the {inner_rate} Hz that this node works at")


def framewise_delay(sample_rate: int | None, inner_rate: int, frames: int) -> float:
    """Return the greatest delay of a `FrameFilter`, in seconds.

    Args:
      sample_rate: Rate of the stream in Hz; None for any usual one.
      inner_rate: Rate of the processor in Hz.
      frames: Delay of the processor plus the frame that must be complete, in frames at `inner_rate`.
    """
    rates = USUAL_RATES if sample_rate is None else (sample_rate,)
    return frames / inner_rate + max(
        0.0 if rate == inner_rate else sinc_delay(rate, inner_rate) + sinc_delay(inner_rate, rate) for rate in rates
    )
