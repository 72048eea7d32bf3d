"""Audio as speech libraries take it: frames of 16-bit mono at one rate."""

from __future__ import annotations

import numpy as np

from nodes.contract import Audio, from_float32
from nodes.dsp.blocks import mono
from nodes.dsp.resampling import SincStream

__all__ = ["SpeechFrames"]


class SpeechFrames:
    """Cuts one unbroken stretch of audio into frames of 16-bit mono; the same ones however it comes in blocks.

    Channels are averaged; another rate is converted with libsamplerate's `sinc_fastest`.

    Args:
      first: The block that the stretch begins with; it is not pushed by that.
      sample_rate: Of the frames, in Hz.
      frame_samples: Their length.

    Attributes:
      start: Position of the first frame of audio, at the rate that it comes in.
      stop: Position after the last one pushed.
    """

    def __init__(self, first: Audio, sample_rate: int, frame_samples: int) -> None:
        self.source_rate = first.sample_rate
        self.start = self.stop = first.start
        self.sample_rate = sample_rate
        self._converter = SincStream(first.sample_rate, sample_rate, 1) if sample_rate != first.sample_rate else None
        self._frame_bytes = 2 * frame_samples
        self._pending = b""

    @property
    def start_ms(self) -> float:
        """Where the stretch begins."""
        return self.start * 1000 / self.source_rate

    @property
    def stop_ms(self) -> float:
        """Where what was pushed ends."""
        return self.stop * 1000 / self.source_rate

    def push(self, audio: Audio) -> list[bytes]:
        """The frames that a block of shape (n, channels) completes."""
        self.stop += len(audio.frames)
        if self._converter is not None:
            converted = self._converter.push(mono(audio)[:, np.newaxis], bound=False)
            return self._cut(from_float32(converted, "i16").tobytes())
        if audio.channels == 1 and audio.sample_format == "i16":
            return self._cut(audio.frames.tobytes())
        return self._cut(from_float32(mono(audio), "i16").tobytes())

    def flush(self) -> list[bytes]:
        """The whole frames that the converter still held."""
        return [] if self._converter is None else self._cut(from_float32(self._converter.flush(), "i16").tobytes())

    def _cut(self, samples: bytes) -> list[bytes]:
        samples, size = self._pending + samples, self._frame_bytes
        frames, at = [], 0
        while at + size <= len(samples):
            frames.append(samples[at : at + size])
            at += size
        self._pending = samples[at:]
        return frames

    @property
    def rest(self) -> bytes:
        """The part of a frame that waits for more."""
        return self._pending

    @property
    def memory_bytes(self) -> int:
        """The part of a frame, and the converter's buffers."""
        return len(self._pending) + (self._converter.memory_bytes if self._converter else 0)
