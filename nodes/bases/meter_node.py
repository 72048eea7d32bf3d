"""Base class of Loudness and SNR, which measure a stream in hops of one length, however it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs

from nodes.contract import Audio, Data, Float32, Kind, Node, Samples
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format
from nodes.dsp.windows import Framing

__all__ = ["Meter", "MeterNode"]


class Meter(Protocol):
    """Measures one stream of one format; `restart` marks its beginning and its gaps."""

    def restart(self) -> None:
        """Prepare for frames that do not continue earlier ones, at the beginning of the stream or after a gap."""
        ...

    def prepare(self, frames: Float32) -> Samples:
        """Turn frames, shape (n, channels), into the values to cut into hops, shape (n, ...); runs once a frame."""
        ...

    def measure(self, hops: Samples) -> Mapping[str, Any]:
        """Take one or more prepared hops, shape (count, hop, ...), and return the measurement after the last one."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Number of bytes held."""
        ...


class _Stretch:
    """One unbroken stretch of audio, cut into hops that are counted from its beginning."""

    def __init__(self, first: Audio, hop: int) -> None:
        self.stop = first.start
        self._hop, self._rate = hop, first.sample_rate
        self._framing = Framing(hop, hop, first.start)

    def push(self, audio: Audio, meter: Meter) -> list[Data]:
        self.stop += len(audio.frames)
        position, prepared, count = self._framing.push(meter.prepare(audio.as_float32()))
        if not count:
            return []
        n_frames = count * self._hop
        value = meter.measure(prepared[:n_frames].reshape(count, self._hop, *prepared.shape[1:]))
        return [Data(value, position / self._rate, (position + n_frames) / self._rate)]

    @property
    def memory_bytes(self) -> int:
        return self._framing.memory_bytes


@attrs.define
class MeterNode(Node):
    """A node that measures audio in hops of `hop_ms`, counted from the beginning of the stream or after a gap.

    A block that completes hops yields one item that spans them and has the measurement after the last one. A remainder
    of less than a hop, at a gap or at the end, is dropped. Joined items have the measurement of the last item.
    """

    _meter: Meter | None = attrs.field(init=False, default=None, repr=False)
    _format: StreamFormat | None = attrs.field(init=False, default=None, repr=False)
    _stretch: _Stretch | None = attrs.field(init=False, default=None, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA
    hop_ms: ClassVar[float] = 100.0

    def make_meter(self, sample_rate: int, channels: int) -> Meter:
        """Build the meter for a stream of this format.

        Raises:
          InvalidInput: the meter cannot measure this format.
        """
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure one block of shape (n, channels).

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or does not fit the parameters, or the
            block begins before the end of the previous one, or holds NaN or infinity.
        """
        require_finite(item)
        if self._format is not None:
            require_format(item, self._format)
        if not len(item.frames):
            return ()
        if self._meter is None:
            self._meter = self.make_meter(item.sample_rate, item.channels)
            self._format = (item.sample_rate, item.channels)
        if self._stretch is None or not continues(item, self._stretch.stop):
            self._stretch = _Stretch(item, max(1, round(self.hop_ms * item.sample_rate / 1000)))
            self._meter.restart()
        return self._stretch.push(item, self._meter)

    def finish(self) -> Iterable[Data]:
        """Forget the stream."""
        self._meter = self._format = self._stretch = None
        return ()

    def close(self) -> None:
        self.finish()

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one with the measurement of the last."""
        return Data(items[-1].value, items[0].at, items[-1].until)

    @property
    def delay(self) -> float:
        """Length of a hop, in seconds."""
        return self.hop_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes that the meter holds, and of the frames that wait for a whole hop."""
        return sum(part.memory_bytes for part in (self._meter, self._stretch) if part is not None)
