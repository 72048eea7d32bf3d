"""Output of nodes that generate audio over another stream, their clock, which sets position and format."""

from __future__ import annotations

import numpy as np

from nodes.contract import Audio, Float32
from nodes.dsp.blocks import bounded, require_finite

__all__ = ["played_over"]


def played_over(clock: Audio, samples: Float32, mix: bool) -> Audio:
    """Return samples at the position and in the format of a block, in place of its own or added to them.

    Args:
      clock: The block.
      samples: Shape (n, 1) or (n, channels), with as many frames as the block.
      mix: Add to the block's own samples instead of replacing them.

    Raises:
      InvalidInput: `mix` is set, and the block holds NaN or infinity.
    """
    if not mix:
        return clock.derive(np.broadcast_to(samples, clock.frames.shape))
    require_finite(clock)
    with np.errstate(over="ignore"):
        return clock.derive(bounded(clock.as_float32() + samples))
