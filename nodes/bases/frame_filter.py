"""Processors that take frames of one length at one rate, made to work on audio of any rate, however it is cut."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nodes.contract import Float32, InvalidInput
from nodes.dsp.resampling import MAX_RATIO, USUAL_RATES, SincStream, sinc_delay
from nodes.dsp.windows import Framing

__all__ = ["FrameFilter", "FrameProcessor", "framewise_delay", "require_convertible"]


class FrameProcessor(Protocol):
    """What works on frames of a fixed length at a fixed rate.

    Attributes:
      sample_rate: In Hz.
      frame_length: In samples.
      delay_frames: By how many samples its output lags its input.
    """

    sample_rate: int
    frame_length: int
    delay_frames: int

    def process(self, frame: Float32) -> Float32:
        """Take one frame of shape (frame_length, channels) and give one."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        ...


class FrameFilter:
    """A `Filter` around a `FrameProcessor`: converts the rate there and back, cuts frames, compensates the delay."""

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
        """The output of the frames that these samples complete, without the processor's delay."""
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
        """The part of a frame that waits, the processor's state and the converters' buffers."""
        converters = sum(stream.memory_bytes for stream in (self._there, self._back) if stream is not None)
        return self._framing.memory_bytes + self._processor.memory_bytes + converters


def require_convertible(sample_rate: int, inner_rate: int) -> None:
    """Refuse a rate that cannot be converted to a processor's.

    Raises:
      InvalidInput: they are too far apart.
    """
    if not inner_rate / MAX_RATIO <= sample_rate <= inner_rate * MAX_RATIO:
        raise InvalidInput(f"cannot convert {sample_rate} Hz to the {inner_rate} Hz that this node works at")


def framewise_delay(sample_rate: int | None, inner_rate: int, frames: int) -> float:
    """By how many seconds a `FrameFilter` lags at most.

    Args:
      sample_rate: Of the stream in Hz; None for any usual one.
      inner_rate: The processor's, in Hz.
      frames: At that rate, the processor's delay and the frame that has to be complete.
    """
    rates = USUAL_RATES if sample_rate is None else (sample_rate,)
    return frames / inner_rate + max(
        0.0 if rate == inner_rate else sinc_delay(rate, inner_rate) + sinc_delay(inner_rate, rate) for rate in rates
    )
