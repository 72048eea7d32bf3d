"""Measuring a stream in hops of one length, however it is cut: what Loudness, DCOffset and SNR stand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs

from nodes.contract import Audio, Data, Float32, Kind, Node, Samples
from nodes.dsp.blocks import StreamFormat, continues, require_finite, require_format
from nodes.dsp.windows import Framing

__all__ = ["Meter", "MeterNode"]


class Meter(Protocol):
    """Measures one stream of one format; gaps are told to it."""

    def restart(self) -> None:
        """What follows does not go on from what was before: the stream begins, or there was a gap."""
        ...

    def prepare(self, frames: Float32) -> Samples:
        """Make of shape (n, channels) what is measured in hops, shape (n, ...); called once for each frame."""
        ...

    def measure(self, hops: Samples) -> Mapping[str, Any]:
        """Take one or more prepared hops, shape (count, hop, ...), and tell how things stand after the last."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""
        ...


class _Stretch:
    """An unbroken stretch of audio, cut into hops from where it began."""

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
    """A node that measures audio in hops of `hop_ms`, counted from where the stream, or a stretch after a gap, began.

    A block that completes hops gives one item that spans them and tells how things stand after the last. What is left
    at a gap or at the end is less than a hop, and dropped. Joined items tell what the last one does.
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
          InvalidInput: it cannot measure this.
        """
        raise NotImplementedError

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure one block of shape (n, channels).

        Raises:
          InvalidInput: the rate or channel count is not the stream's, or does not fit the parameters, the block goes
            back, or holds NaN or infinity.
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
        """Let go of what is held."""
        self.finish()

    def join(self, items: Sequence[Data]) -> Data:
        """How things stand after the last."""
        return Data(items[-1].value, items[0].at, items[-1].until)

    @property
    def delay(self) -> float:
        """The length of a hop, in seconds."""
        return self.hop_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """What the meter holds, and the frames that wait for a whole hop."""
        return sum(part.memory_bytes for part in (self._meter, self._stretch) if part is not None)
