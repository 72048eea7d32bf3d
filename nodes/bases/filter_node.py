"""Base class of nodes that filter audio and keep its sample rate, channel count and length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import attrs

from nodes.contract import Audio, Float32, Node, SampleFormat, from_float32
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format
from nodes.dsp.sos import scipy_signal

__all__ = ["Filter", "FilterNode", "SectionsNode"]


class Filter(Protocol):
    """A filter for one unbroken stretch of audio of one format; it returns as many frames as it takes."""

    def push(self, frames: Float32) -> Float32:
        """Take frames, shape (n, channels), and return the next frames of output, shape (m, channels); m may be 0."""
        ...

    def flush(self) -> Float32:
        """Return the frames that are still held back; the filter cannot be used afterwards."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Number of bytes held."""
        ...


class _Stretch:
    """One unbroken stretch of audio: its filter, and the positions that its input and output have reached."""

    def __init__(self, first: Audio, filtering: Filter) -> None:
        self.format: StreamFormat = (first.sample_rate, first.channels)
        self.stop = self._given_stop = first.start
        self.filter = filtering
        self._sample_format: SampleFormat = first.sample_format

    def push(self, audio: Audio) -> list[Audio]:
        self.stop += len(audio.frames)
        self._sample_format = audio.sample_format
        return self._placed(self.filter.push(audio.as_float32()))

    def flush(self) -> list[Audio]:
        return self._placed(self.filter.flush())

    def _placed(self, frames: Float32) -> list[Audio]:
        if not len(frames):
            return []
        start = self._given_stop
        self._given_stop += len(frames)
        return [Audio(from_float32(frames, self._sample_format), self.format[0], start)]


@attrs.define
class FilterNode(Node):
    """A node that sends audio through a `Filter`: n frames in, n frames out, at the same positions.

    The filter's delay is compensated: frames that it holds back come with later blocks or at `finish`. When the input
    jumps forward by more than one frame, the stretch before is flushed and a fresh filter begins, so that nothing is
    smeared over a gap.
    """

    _stretch: _Stretch | None = attrs.field(init=False, default=None, repr=False)

    def make_filter(self, sample_rate: int, channels: int) -> Filter:
        """Build the filter for a stretch of this format.

        Raises:
          InvalidInput: the filter cannot work at this sample rate.
        """
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Audio]:
        """Filter one block of shape (n, channels).

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, the block begins before the end of the
            previous one, or holds NaN or infinity, or the filter cannot work at its rate.
        """
        require_finite(item)
        if self._stretch is not None:
            require_format(item, self._stretch.format)
        if not len(item.frames):
            return ()
        settled: list[Audio] = []
        if self._stretch is not None and not continues(item, self._stretch.stop):
            settled = self._stretch.flush()
            self._stretch = None
        if self._stretch is None:
            self._stretch = _Stretch(item, self.make_filter(item.sample_rate, item.channels))
        return settled + self._stretch.push(item)

    def finish(self) -> Iterable[Audio]:
        """Yield the frames that the filter still holds back, and forget the stream."""
        tail = [] if self._stretch is None else self._stretch.flush()
        self._stretch = None
        return tail

    def close(self) -> None:
        """Free the filter."""
        self._stretch = None

    @property
    def sample_rate(self) -> int | None:
        """Sample rate of the stream in Hz; None before it is known."""
        return None if self._stretch is None else self._stretch.format[0]

    @property
    def memory_bytes(self) -> int:
        """Number of bytes that the filter holds."""
        return 0 if self._stretch is None else self._stretch.filter.memory_bytes


@attrs.define
class SectionsNode(FilterNode):
    """A `FilterNode` whose filter SciPy runs, as second-order sections."""

    extra = "dsp"

    def __attrs_post_init__(self) -> None:
        scipy_signal()
