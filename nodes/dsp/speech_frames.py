"""Conversion of audio to the form that speech libraries take: frames of 16-bit mono at one rate."""

from __future__ import annotations

import numpy as np

from nodes.dsp.blocks import mono
from nodes.dsp.resampling import SincStream
from nodes.items import Audio, from_float32

__all__ = ["SpeechFrames"]


class SpeechFrames:
    """Cuts one unbroken stretch of audio into frames of 16-bit mono, the same however the stretch is cut into blocks.

    Channels are averaged; another rate is converted with libsamplerate's `sinc_fastest`.

    Args:
      first: First block of the stretch; it must still be pushed.
      sample_rate: Rate of the frames in Hz.
      frame_samples: Length of a frame.

    Attributes:
      source_rate: Rate of the stretch in Hz.
      start: Position of the first audio frame of the stretch, at `source_rate`.
      stop: Position just after the last one pushed, at `source_rate`.
      sample_rate: Rate of the frames in Hz.
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
        """Beginning of the stretch, in ms since the session began."""
        return self.start * 1000 / self.source_rate

    @property
    def stop_ms(self) -> float:
        """End of the pushed audio, in ms since the session began."""
        return self.stop * 1000 / self.source_rate

    def push(self, audio: Audio) -> list[bytes]:
        """Push a block of shape (n, channels); return the frames that it completes."""
        self.stop += len(audio.frames)
        if self._converter is not None:
            converted = self._converter.push(mono(audio)[:, np.newaxis], bound=False)
            return self._cut(from_float32(converted, "i16").tobytes())
        if audio.channels == 1 and audio.sample_format == "i16":
            return self._cut(audio.frames.tobytes())
        return self._cut(from_float32(mono(audio), "i16").tobytes())

    def flush(self) -> list[bytes]:
        """Return the whole frames that the converter still held."""
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
        """Samples of the incomplete frame."""
        return self._pending

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the incomplete frame and the converter's buffers."""
        return len(self._pending) + (self._converter.memory_bytes if self._converter else 0)
