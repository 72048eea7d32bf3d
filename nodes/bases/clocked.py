"""Sources without an input of their own: another stream is their clock, and says where they are and in which format."""

from __future__ import annotations

import numpy as np

from nodes.contract import Audio, Float32
from nodes.dsp.blocks import bounded, require_finite

__all__ = ["played_over"]


def played_over(clock: Audio, samples: Float32, mix: bool) -> Audio:
    """Samples in the place and format of a block: instead of it, or added to it.

    Args:
      clock: The block.
      samples: Shape (n, 1) or (n, channels), as many frames as the block has.
      mix: Add, rather than replace.

    Raises:
      InvalidInput: it is to be added to, and holds NaN or infinity.
    """
    if not mix:
        return clock.derive(np.broadcast_to(samples, clock.frames.shape))
    require_finite(clock)
    with np.errstate(over="ignore"):
        return clock.derive(bounded(clock.as_float32() + samples))
