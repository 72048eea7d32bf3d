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

    Frames are put together by position, as in Mix, and the rules for gaps, formats, `max_skew_ms` and the end are the
    same. The upstream nodes have to have equally many channels. int32 keeps 24 significant bits.
    """

    def connect(self, upstreams: Sequence[str]) -> None:
        """Learn what to wait for.

        Raises:
          ValueError: there are too many.
        """
        if len(upstreams) > MAX_CHANNELS:
            raise ValueError(f"{len(upstreams)} upstream nodes; the limit is {MAX_CHANNELS} channels")
        super().connect(upstreams)

    def process(self, row: Mapping[str, Sequence[Any]]) -> Iterable[Audio]:
        """Merge what all upstream nodes have reached.

        Raises:
          InvalidInput: rates or channel counts differ, there would be more than 128 channels, or a block begins before
            its node's last one ended.
          SkewTooGreat: an upstream node is too far behind.
        """
        most = max((block.channels for blocks in row.values() for block in blocks), default=0)
        if most * len(row) > MAX_CHANNELS:
            raise InvalidInput(f"{len(row)} times {most} channels are more than {MAX_CHANNELS}")
        return super().process(row)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """All channels in a row."""
        return np.concatenate(list(stretch.frames.values()), axis=1)
