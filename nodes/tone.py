"""Tone: a sine wave, for tests."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from nodes.bases.clocked import played_over
from nodes.contract import Audio, InvalidInput, Node, parameter

__all__ = ["Tone"]


@attrs.define
class Tone(Node):
    """Give a sine in place of its input, or on top of it (`mix`): the same on all channels.

    A source needs a clock: what comes in says how much is wanted, at which position, rate and format. Sample n is
    a·sin(2π·f·n / rate), n counted since the session began, so that the wave goes on through any cuts and gaps.
    """

    frequency_hz: float = parameter(440.0, help="in Hz; less than half the sample rate", above=0, at_most=384_000)
    level_dbfs: float = parameter(-20.0, help="of the wave's peak, in dB; 0 is full scale", at_least=-200, at_most=0)
    mix: bool = parameter(False, help="add to the input instead of replacing it")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Give as much of the wave as one block is long.

        Raises:
          InvalidInput: the frequency is too high for its rate; or, with `mix`, it holds NaN or infinity.
        """
        if self.frequency_hz >= item.sample_rate / 2:
            raise InvalidInput(f"{self.frequency_hz:g} Hz is not below half of {item.sample_rate} Hz")
        turns = np.arange(item.start, item.stop) * (self.frequency_hz / item.sample_rate) % 1.0
        wave = 10 ** (self.level_dbfs / 20) * np.sin(2 * np.pi * turns)
        return (played_over(item, wave.astype(np.float32)[:, np.newaxis], self.mix),)
