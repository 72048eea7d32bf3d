"""ChannelMerge: several streams as the channels of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from nodes.bases.aligned_join import AlignedJoin
from nodes.bases.alignment import Stretch
from nodes.contract import MAX_CHANNELS, Audio, InvalidInput, Samples

__all__ = ["ChannelMerge"]


@attrs.define
class ChannelMerge(AlignedJoin):
    """Put the channels of all upstream nodes side by side, in the order of the connections.

    Frames are aligned by position as in Mix, with the same rules for gaps, formats, `max_skew_ms` and the end. All
    upstream nodes must have the same number of channels. int32 keeps 24 significant bits.
    """

    def connect(self, upstreams: Sequence[str]) -> None:
        """Set the upstream nodes to wait for.

        Raises:
          ValueError: there are more than 128.
        """
        if len(upstreams) > MAX_CHANNELS:
            raise ValueError(f"{len(upstreams)} upstream nodes; the limit is {MAX_CHANNELS} channels")
        super().connect(upstreams)

    def process(self, row: Mapping[str, Sequence[Any]]) -> Iterable[Audio]:
        """Merge the audio up to the position that all upstream nodes have reached.

        Raises:
          InvalidInput: sample rates or channel counts differ, there would be more than 128 channels, or a block begins
            before the end of its node's previous one, or holds NaN or infinity.
          SkewTooGreat: an upstream node is too far behind.
        """
        most = max((block.channels for blocks in row.values() for block in blocks), default=0)
        if most * len(row) > MAX_CHANNELS:
            raise InvalidInput(f"{len(row)} times {most} channels are more than {MAX_CHANNELS}")
        return super().process(row)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """Put the channels side by side."""
        return np.concatenate(list(stretch.frames.values()), axis=1)
