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
    """Generate a sine wave in place of the input, or on top of it (`mix`), the same on all channels.

    The input is the clock: it sets the length, position, rate and format of the output. Sample n is
    a·sin(2π·f·n / rate), with n counted since the session began, so that the wave continues through any cuts and gaps.
    """

    frequency_hz: float = parameter(
        440.0, help="frequency in Hz; less than half the sample rate", above=0, at_most=384_000
    )
    level_dbfs: float = parameter(-20.0, help="peak level, in dBFS", at_least=-200, at_most=0)
    mix: bool = parameter(False, help="add to the input instead of replacing it")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Generate the wave for the length of one block.

        Raises:
          InvalidInput: the frequency is too high for the sample rate; or, with `mix`, the block holds NaN or infinity.
        """
        if self.frequency_hz >= item.sample_rate / 2:
            raise InvalidInput(f"{self.frequency_hz:g} Hz is not below half of the sample rate, {item.sample_rate} Hz")
        turns = np.arange(item.start, item.stop) * (self.frequency_hz / item.sample_rate) % 1.0
        wave = 10 ** (self.level_dbfs / 20) * np.sin(2 * np.pi * turns)
        return (played_over(item, wave.astype(np.float32)[:, np.newaxis], self.mix),)
