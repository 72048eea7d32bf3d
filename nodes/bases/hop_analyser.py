"""Analysers of audio that decide hop by hop, so that what they find does not depend on how the audio is cut."""

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
    """A node that measures hops of `hop_ms`, counted from where the stream or a stretch after a gap began.

    A block that completes hops gives one data item about them, a block of some seconds several; `finish` gives one
    that ends what is still on, of no length. What is less than a hop before a gap or the end is not looked at. An item
    has, besides what the class says, `timestamp_ms`, `duration_ms` and `frames` of its hops, as AudioLevel does.

    In items, each bool is whether it was so at some time, and each list has segments: they are joined as such, except
    for what `joined` gives.
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
        """All that goes on and off."""
        raise NotImplementedError

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Measure hops, shape (count, channels, size), of which the first begins at `start_ms`, and tell the alarms."""
        raise NotImplementedError

    def states(self) -> Value:
        """What was on since the last call."""
        raise NotImplementedError

    def joined(self, values: Sequence[Value]) -> Value:
        """The numbers of several items over all of them; those that are missing are as in the last."""
        raise NotImplementedError

    def end_stretch(self) -> None:
        """A gap, or the end: what is on goes off."""
        for alarm in self.alarms():
            alarm.end()

    def process(self, item: Audio) -> Iterable[Data]:
        """Measure the hops that one block completes.

        Raises:
          InvalidInput: the rate or channel count is not the stream's, the block goes back, or holds NaN or infinity.
        """
        return [self._told(windows) for windows in self._windows.push(item)]

    def _told(self, windows: Windows) -> Data:
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
        """End what is still on."""
        measured, self._measured = self._measured, None
        self._windows.clear()
        if measured is None:
            return ()
        self.end_stretch()
        return (self._item(measured, self._until_ms, 0),)

    def close(self) -> None:
        """Let go of what is held."""
        self._windows.clear()

    def join(self, items: Sequence[Data]) -> Data:
        """One item about all the hops."""
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
        """How long after a change it is told at most: a hop, and the longest time that a change has to last."""
        held_ms = max((max(alarm.hold_ms, alarm.release_ms) for alarm in self.alarms()), default=0.0)
        return (2 * self.hop_ms + held_ms) / 1000

    @property
    def memory_bytes(self) -> int:
        """The frames that wait for a whole hop."""
        return self._windows.memory_bytes


def _joined(name: str, values: Sequence[Value]) -> Any:
    latest = values[-1][name]
    if isinstance(latest, bool):
        return any(value[name] for value in values)
    return merge_segments(value[name] for value in values) if isinstance(latest, list) else latest


def joined_mean(values: Sequence[Value], numbers: Iterable[float]) -> float:
    """The mean over several items, at least one of which has frames, of a number that each has."""
    total: int = sum(value["frames"] for value in values)
    return math.fsum(value["frames"] * number for value, number in zip(values, numbers, strict=True)) / total


def joined_db(values: Sequence[Value], name: str) -> float:
    """The level over several items of which each has its own level under this name."""
    return power_db(joined_mean(values, (power(value[name]) for value in values)))
