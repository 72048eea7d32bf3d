"""ChannelBalance: imbalance and dead channels in a stereo stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.hop_analyser import HopAnalyser, Value, joined_db
from nodes.contract import Audio, Data, InvalidInput, parameter
from nodes.dsp.decibels import FLOOR_DBFS, amplitude, power_db, powers_db
from nodes.dsp.hysteresis import Alarm

__all__ = ["ChannelBalance"]

_MARGIN_DB = 2.0


@attrs.define
class ChannelBalance(HopAnalyser):
    """Detect imbalance between the channels of a stereo stream, and dead channels.

    Method: the RMS of each channel in hops of 10 ms. An imbalance begins when one channel has been at least
    `threshold_db` above the other for `hold_ms`, and ends when the difference has been more than 2 dB below that for
    `release_ms`. A channel is dead when it has been below `dead_db` for `hold_ms` while the other was at `quiet_db` or
    above, and alive when it has been at `dead_db` or above for `release_ms`. A hop with both channels below `quiet_db`
    counts like the hop before it, except that a channel at `dead_db` or above is alive. Any format and rate; two
    channels. A block that completes hops yields:

    * `left_rms_db`, `right_rms_db`: at least -120; `imbalance_db`: left minus right;
      `balance_ratio`: the quieter RMS over the louder, 0 to 1;
    * `is_imbalanced`, `segments`: `[[start_ms, end_ms]]` of the imbalance since the last item; end null while it lasts;
    * `has_dead_channel`, `dead_channel`: "left", "right" or null; `left_dead_segments`, `right_dead_segments`;
    * `timestamp_ms`, `duration_ms`, `frames`: of the hops.
    """

    threshold_db: float = parameter(
        6.0, help="difference that counts as imbalance, in dB", above=_MARGIN_DB, at_most=60
    )
    dead_db: float = parameter(-70.0, help="RMS below which a channel is dead, in dBFS", above=FLOOR_DBFS, at_most=0)
    quiet_db: float = parameter(
        -50.0, help="RMS that one channel must reach for a comparison, in dBFS", above=FLOOR_DBFS, at_most=0
    )
    hold_ms: float = parameter(
        500.0, help="time that a condition must last to count, in ms", at_least=0, at_most=60_000
    )
    release_ms: float = parameter(500.0, help="time without it until it ends, in ms", at_least=0, at_most=60_000)
    _imbalance: Alarm = attrs.field(init=False, repr=False)
    _dead: tuple[Alarm, Alarm] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.dead_db > self.quiet_db:
            raise ValueError(f"dead_db must be at most quiet_db ({self.quiet_db:g}), got {self.dead_db:g}")
        self._imbalance = Alarm(self.threshold_db, _MARGIN_DB, self.hold_ms, self.release_ms)
        self._dead = (Alarm(1.0, 0.0, self.hold_ms, self.release_ms), Alarm(1.0, 0.0, self.hold_ms, self.release_ms))

    def alarms(self) -> Sequence[Alarm]:
        """Return the alarm for imbalance, and one for each channel."""
        return (self._imbalance, *self._dead)

    def process(self, item: Audio) -> Iterable[Data]:
        """Compare the hops that one block completes.

        Raises:
          InvalidInput: the block does not have two channels, its sample rate is not the stream's, or it begins before
            the end of the previous one, or holds NaN or infinity.
        """
        if item.channels != 2:
            raise InvalidInput(f"the stream must have two channels, this block has {item.channels}")
        return super().process(item)

    def measure(self, samples: NDArray[np.float64], start_ms: float, hop_ms: float) -> Value:
        """Measure the level of each channel."""
        mean_squares = np.square(samples).mean(axis=2)
        levels = powers_db(mean_squares)
        loud = levels >= self.quiet_db
        difference = np.where(loud.any(axis=1), np.abs(levels[:, 0] - levels[:, 1]), np.nan)
        self._imbalance.push(difference, start_ms, hop_ms)
        for channel, alarm in enumerate(self._dead):
            compared = np.where(loud[:, 1 - channel], 1.0, np.nan)
            alarm.push(np.where(levels[:, channel] < self.dead_db, compared, 0.0), start_ms, hop_ms)
        left, right = mean_squares.mean(axis=0).tolist()
        return _value(power_db(left), power_db(right))

    def states(self) -> Value:
        """Return the fields about imbalance and dead channels since the last call."""
        segments, left, right = (alarm.take() for alarm in self.alarms())
        return {
            "is_imbalanced": bool(segments),
            "segments": segments,
            "has_dead_channel": bool(left or right),
            "dead_channel": "left" if left else "right" if right else None,
            "left_dead_segments": left,
            "right_dead_segments": right,
        }

    def joined(self, values: Sequence[Value]) -> Value:
        """Return the levels over all hops, and the channel that was dead."""
        dead = {value["dead_channel"] for value in values}
        channel = "left" if "left" in dead else "right" if "right" in dead else None
        levels = _value(joined_db(values, "left_rms_db"), joined_db(values, "right_rms_db"))
        return {**levels, "dead_channel": channel}


def _value(left_db: float, right_db: float) -> dict[str, Any]:
    difference = left_db - right_db
    return {
        "left_rms_db": left_db,
        "right_rms_db": right_db,
        "balance_ratio": amplitude(-abs(difference)),
        "imbalance_db": difference,
    }
