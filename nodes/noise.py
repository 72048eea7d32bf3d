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
"""Random numbers per step of Philox's counter."""


@attrs.define
class Noise(Node):
    """Generate white noise in place of the input, or on top of it (`mix`), different on each channel.

    The input is the clock: it sets the length, position, rate and format of the output. Samples are uniformly
    distributed, and drawn by Philox 4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). This
    generator can begin anywhere, so that the sample at a position depends only on `seed` and channel.
    """

    level_dbfs: float = parameter(-40.0, help="RMS in dBFS; 0 is an RMS of full scale", at_least=-200, at_most=-4.78)
    seed: int = parameter(0, help="seed of the generator: another seed, another noise", at_least=0, at_most=2**32 - 1)
    mix: bool = parameter(False, help="add to the input instead of replacing it")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Generate noise for the length of one block.

        Raises:
          InvalidInput: with `mix`, the block holds NaN or infinity.
        """
        peak = 10 ** (self.level_dbfs / 20) * 3**0.5  # a uniform distribution's RMS is its peak over √3
        draws = [self._drawn(channel, item.start, len(item.frames)) for channel in range(item.channels)]
        noise = ((2.0 * np.stack(draws, axis=1) - 1.0) * peak).astype(np.float32)
        return (played_over(item, noise, self.mix),)

    def _drawn(self, channel: int, start: int, count: int) -> NDArray[np.float64]:
        """Draw uniform numbers in [0, 1), from a position in the sequence of one channel."""
        philox = np.random.Philox(key=[self.seed, channel], counter=start // _DRAWS)
        return np.random.Generator(philox).random(start % _DRAWS + count)[start % _DRAWS :]
