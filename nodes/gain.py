"""Gain: louder or quieter by a fixed number of decibels."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from nodes.contract import Audio, Node, parameter
from nodes.dsp.blocks import require_finite, scaled

__all__ = ["Gain"]


@attrs.define
class Gain(Node):
    """Multiply every sample by 10^(gain_db / 20).

    Any rate and channel count. int16 and int32 are clipped at full scale, float32 only where it would overflow to
    infinity. At 0 dB the block passes unchanged; otherwise int32 keeps 24 significant bits.
    """

    gain_db: float = parameter(0.0, help="amplification in dB; negative is quieter", at_least=-120, at_most=120)
    _factor: float = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._factor = 10.0 ** (self.gain_db / 20.0)

    def process(self, item: Audio) -> Iterable[Audio]:
        """Amplify one block of shape (n_frames, channels).

        Raises:
          InvalidInput: a sample is NaN or infinite.
        """
        require_finite(item)
        if self.gain_db == 0:
            return (item,)
        return (item.derive(scaled(item.as_float32(), self._factor)),)
