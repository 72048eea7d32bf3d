"""Overlapping windows of a stream, counted from its beginning, for Chunker, analysers and features."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.dsp.blocks import StreamFormat, continues, mono, require_finite, require_format
from nodes.items import Audio, InvalidInput, Samples

__all__ = ["ChannelWindows", "Framing", "MonoWindows", "Windows"]

_LONGEST = 16_384
"""Greatest length of a window, in frames."""

_BATCH_SAMPLES = 1 << 16
"""Samples in one batch of windows; it bounds the memory that one long block costs, and the output for each batch."""


@attrs.define
class Framing:
    """Cuts a stream into windows: window i has the frames from `i * hop` to `i * hop + size` of the stream.

    Attributes:
      size: Length of a window, in frames.
      hop: Frames from one window to the next; at most `size`.
      position: Position of the next window.
    """

    size: int
    hop: int
    position: int
    _held: Samples | None = attrs.field(init=False, default=None)
    _any: bool = attrs.field(init=False, default=False)

    def push(self, frames: Samples) -> tuple[int, Samples, int]:
        """Take the next frames, shape (n, ...); return position, frames and number of the windows they complete.

        The first of these windows is `frames[:size]`, the next `frames[hop : hop + size]`.
        """
        frames = frames if self._held is None else np.concatenate((self._held, frames))
        count = max(0, (len(frames) - self.size) // self.hop + 1)
        position = self.position
        self._held = frames[count * self.hop :].copy()
        self.position += count * self.hop
        self._any |= count > 0
        return position, frames, count

    def rest(self) -> Samples | None:
        """Return the beginning of the next window if it has frames that are in no window yet, else None."""
        known = self.size - self.hop if self._any else 0
        return None if self._held is None or len(self._held) <= known else self._held

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole window."""
        return 0 if self._held is None else self._held.nbytes


@attrs.frozen
class Windows:
    """Consecutive windows of a stream.

    Attributes:
      samples: Float64, shape (count, size) for the mean of the channels, or (count, channels, size).
      position: Position of the first window's first frame.
      sample_rate: In Hz.
      is_fresh: True if they are the first after the beginning of the stream or a gap.
    """

    samples: NDArray[np.float64]
    position: int
    sample_rate: int
    is_fresh: bool


@attrs.define
class ChannelWindows:
    """Cuts a stream into windows of all its channels. After a gap they begin anew; the remainder before is dropped.

    Attributes:
      window_ms: Length of a window; at least 2 frames, whatever the rate.
      hop_ms: Time from one window to the next; at least 1 frame.
      format: Format of the stream; None before its first block.
    """

    window_ms: float
    hop_ms: float
    format: StreamFormat | None = attrs.field(init=False, default=None)
    _framing: Framing | None = attrs.field(init=False, default=None)
    _stop: int = attrs.field(init=False, default=0)
    _is_fresh: bool = attrs.field(init=False, default=True)

    def push(self, audio: Audio) -> Iterator[Windows]:
        """Return the windows that a block completes, in batches.

        Raises:
          InvalidInput: the block's format is not the stream's, it begins before the end of the previous one, or holds
            NaN or infinity, or its rate makes a window longer than 16,384 frames.
        """
        require_finite(audio)
        size, hop = self.sizes(audio.sample_rate)
        if self.format is not None:
            require_format(audio, self.format)
        if not len(audio.frames):
            return iter(())
        is_continued = self.format is not None and continues(audio, self._stop)
        if not is_continued or self._framing is None:
            self.format = (audio.sample_rate, audio.channels)
            self._framing = Framing(size, hop, audio.start)
            self._stop, self._is_fresh = audio.start, True
        self._stop += len(audio.frames)
        position, samples, count = self._framing.push(self._samples(audio))
        if not count:
            return iter(())
        fresh, self._is_fresh = self._is_fresh, False
        windows = np.lib.stride_tricks.sliding_window_view(samples, size, axis=0)[::hop][:count]
        return _batches(Windows(windows, position, audio.sample_rate, fresh), hop)

    def _samples(self, audio: Audio) -> NDArray[np.float64]:
        """Return the samples of a block that are cut into windows, shape (n, ...)."""
        return audio.as_float32().astype(np.float64)

    def sizes(self, rate: int) -> tuple[int, int]:
        """Return the length of a window, and the distance from one to the next, in frames at a sample rate.

        Raises:
          InvalidInput: a window would be longer than 16,384 frames.
        """
        size = max(2, round(self.window_ms * rate / 1000))
        if size > _LONGEST:
            raise InvalidInput(f"{self.window_ms:g} ms are {size} frames at {rate} Hz; a window has {_LONGEST} at most")
        return size, min(size, max(1, round(self.hop_ms * rate / 1000)))

    def clear(self) -> None:
        """Forget the stream."""
        self.format = self._framing = None

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole window."""
        return 0 if self._framing is None else self._framing.memory_bytes


@attrs.define
class MonoWindows(ChannelWindows):
    """Cuts the mean of a stream's channels into windows."""

    def _samples(self, audio: Audio) -> NDArray[np.float64]:
        return mono(audio).astype(np.float64)


def _batches(windows: Windows, hop: int) -> Iterator[Windows]:
    samples = windows.samples
    step = max(1, _BATCH_SAMPLES // samples[0].size)
    for first in range(0, len(samples), step):
        start = windows.position + first * hop
        yield Windows(samples[first : first + step], start, windows.sample_rate, windows.is_fresh and not first)
