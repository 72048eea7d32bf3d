"""Base class of nodes that analyse audio hop by hop, so that their findings do not depend on how the audio is cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.contract import Audio, Data, Kind, Node
from nodes.dsp.decibels import power, power_db
from nodes.dsp.hysteresis import Alarm
from nodes.dsp.segments import merge_segments, milliseconds
from nodes.dsp.windows import ChannelWindows, Windows

__all__ = ["HopAnalyser", "Value", "joined_db", "joined_mean"]

Value = Mapping[str, Any]


@attrs.define
class HopAnalyser(Node):
    """A node that measures hops of `hop_ms`, counted from the beginning of the stream or of a stretch after a gap.

    A block that completes hops yields one data item about them, a block of some seconds yields several. `finish` yields
    an item of no length, in which every state that is still on ends. A remainder of less than a hop, before a gap or
    at the end, is ignored. In addition to the fields of the class, an item has `timestamp_ms`, `duration_ms` and
    `frames` of its hops, like those of AudioLevel.

    `join` treats a bool in the items as true if it was true in any of them, and merges lists as segments, except for
    the fields that `joined` returns.
    """

    hop_ms: ClassVar[float] = 10.0
    _windows: ChannelWindows = attrs.field(init=False, repr=False)
    _measured: Value | None = attrs.field(init=False, default=None, repr=False)
    _until_ms: float = attrs.field(init=False, default=0.0, repr=False)

    takes = Kind.AUDIO
    gives = Kind.DATA

    def __attrs_post_init__(self) -> None:
        self._windows = ChannelWindows(self.hop_ms, self.hop_ms)

    def alarms(self) -> Sequence[Alarm]:
        """Return all alarms of the node."""
        raise NotImplementedError

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Measure hops, shape (count, channels, size), of which the first begins at `start_ms`; update the alarms."""
        raise NotImplementedError

    def states(self) -> Value:
        """Return the fields about the states that were on since the last call."""
        raise NotImplementedError

    def joined(self, values: Sequence[Value]) -> Value:
        """Return numbers over several items; a number that is left out is taken from the last item."""
        raise NotImplementedError

    def end_stretch(self) -> None:
        """Turn all alarms off, at a gap or at the end of the stream."""
        for alarm in self.alarms():
            alarm.end()

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure the hops that one block completes.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or the block begins before the end of the
            previous one, or holds NaN or infinity.
        """
        return [self._analyse(windows) for windows in self._windows.push(item)]

    def _analyse(self, windows: Windows) -> Data:
        count, _, size = windows.samples.shape
        start_ms, hop_ms = windows.position * 1000 / windows.sample_rate, size * 1000 / windows.sample_rate
        if windows.is_fresh:
            self.end_stretch()
        self._measured = self.measure(windows.samples, start_ms, hop_ms)
        self._until_ms = (windows.position + count * size) * 1000 / windows.sample_rate
        return self._item(self._measured, start_ms, count * size)

    def _item(self, measured: Value, start_ms: float, frames: int) -> Data:
        timed = {
            "timestamp_ms": milliseconds(start_ms),
            "duration_ms": milliseconds(self._until_ms - start_ms),
            "frames": frames,
        }
        value = {**measured, **self.states(), **timed}
        return Data(value, start_ms / 1000, self._until_ms / 1000)

    def finish(self) -> Iterable[Data]:
        """Yield an item that ends every state that is still on."""
        measured, self._measured = self._measured, None
        self._windows.clear()
        if measured is None:
            return ()
        self.end_stretch()
        return (self._item(measured, self._until_ms, 0),)

    def close(self) -> None:
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """Join several items into one about all their hops."""
        if len(items) == 1:
            return items[0]
        values = [item.value for item in items]
        value = dict(self.joined(values))
        value |= {name: _joined(name, values) for name in values[-1] if name not in value}
        value |= {
            "timestamp_ms": values[0]["timestamp_ms"],
            "duration_ms": milliseconds(math.fsum(value["duration_ms"] for value in values)),
            "frames": sum(value["frames"] for value in values),
        }
        return Data(value, items[0].at, items[-1].until)

    @property
    def delay(self) -> float:
        """Greatest time from a change to its item, in seconds: two hops, and the longest hold or release."""
        held_ms = max((max(alarm.hold_ms, alarm.release_ms) for alarm in self.alarms()), default=0.0)
        return (2 * self.hop_ms + held_ms) / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole hop."""
        return self._windows.memory_bytes


def _joined(name: str, values: Sequence[Value]) -> Any:
    latest = values[-1][name]
    if isinstance(latest, bool):
        return any(value[name] for value in values)
    return merge_segments(value[name] for value in values) if isinstance(latest, list) else latest


def joined_mean(values: Sequence[Value], numbers: Iterable[float]) -> float:
    """Return the mean, weighted by frames, of one number for each item; at least one item must have frames."""
    total: int = sum(value["frames"] for value in values)
    return math.fsum(value["frames"] * number for value, number in zip(values, numbers, strict=True)) / total


def joined_db(values: Sequence[Value], name: str) -> float:
    """Return the level over several items, each of which has a level in dB under this name."""
    return power_db(joined_mean(values, (power(value[name]) for value in values)))
