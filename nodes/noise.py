"""Noise: white noise, for tests."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np
from numpy.typing import NDArray

from nodes.bases.clocked import played_over
from nodes.contract import Audio, Node, parameter

__all__ = ["Noise"]

_DRAWS = 4
"""Numbers that one step of Philox's counter gives."""


@attrs.define
class Noise(Node):
    """Give white noise in place of its input, or on top of it (`mix`), unlike on each channel.

    A source needs a clock: what comes in says how much is wanted, at which position, rate and format. Samples are
    uniformly distributed, and drawn by Philox 4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011), a generator that can begin anywhere: which sample comes at a position depends on `seed` and channel alone.
    """

    level_dbfs: float = parameter(-40.0, help="RMS in dB; 0 is that of full scale", at_least=-200, at_most=-4.78)
    seed: int = parameter(0, help="another seed, another noise", at_least=0, at_most=2**32 - 1)
    mix: bool = parameter(False, help="add to the input instead of replacing it")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Give as much noise as one block is long.

        Raises:
          InvalidInput: with `mix`, it holds NaN or infinity.
        """
        peak = 10 ** (self.level_dbfs / 20) * 3**0.5  # a uniform distribution's RMS is its peak over √3
        draws = [self._drawn(channel, item.start, len(item.frames)) for channel in range(item.channels)]
        noise = ((2.0 * np.stack(draws, axis=1) - 1.0) * peak).astype(np.float32)
        return (played_over(item, noise, self.mix),)

    def _drawn(self, channel: int, start: int, count: int) -> NDArray[np.float64]:
        """Uniform in [0, 1), from a position of one channel's sequence on."""
        philox = np.random.Philox(key=[self.seed, channel], counter=start // _DRAWS)
        return np.random.Generator(philox).random(start % _DRAWS + count)[start % _DRAWS :]
