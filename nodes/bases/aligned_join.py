"""What Mix, ChannelMerge and Crossfade have in common: a `Join` of audio that goes by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from nodes.bases.alignment import Alignment, Stretch
from nodes.contract import Audio, Join, Samples, from_float32, parameter
from nodes.dsp.blocks import require_finite

__all__ = ["AlignedJoin"]

_LARGEST = float(np.finfo(np.float32).max)


@attrs.define
class AlignedJoin(Join):
    """Puts the audio of all upstream nodes together, frame by frame at the same position, as `combine` says.

    Audio is held until every upstream node has reached its position; at `finish` the shorter ones are padded with
    silence. A node's gap counts as silence, a gap of all stays a gap. Rates and channel counts have to be equal; where
    sample formats differ, the result is float32. An upstream node that is more than `max_skew_ms` behind another fails
    the node (`SkewTooGreat`), which bounds what is held. One whose input has ended may be.
    """

    max_skew_ms: float = parameter(
        1000.0, help="how far one upstream may be behind another, in ms", above=0, at_most=3_600_000
    )
    _alignment: Alignment = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._alignment = Alignment(("",), self.max_skew_ms)

    def connect(self, upstreams: Sequence[str]) -> None:
        """Learn what to wait for."""
        self._alignment = Alignment(tuple(upstreams) or ("",), self.max_skew_ms)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """One block of as many upstream blocks, whose names are in the order of the connections.

        Returns:
          Float, shape (n, channels); what is beyond float32's range is clipped to it.
        """
        raise NotImplementedError

    def process(self, row: Mapping[str, Sequence[Any]]) -> Iterable[Audio]:
        """Combine what all upstream nodes have reached.

        Raises:
          InvalidInput: rates or channel counts differ, or a block begins before its node's last one ended, or holds NaN
            or infinity.
          SkewTooGreat: an upstream node is too far behind.
        """
        for blocks in row.values():
            for block in blocks:
                require_finite(block)
        self._alignment.check(row)
        self._alignment.add(row)
        return self._combined(self._alignment.take())

    def ended(self, upstream: str) -> None:
        """Wait no more for this upstream node."""
        self._alignment.end(upstream)

    def finish(self) -> Iterable[Audio]:
        """Combine the rest, padded with silence."""
        return self._combined(self._alignment.flush())

    def _combined(self, stretches: Iterator[Stretch]) -> list[Audio]:
        given: list[Audio] = []
        for stretch in stretches:
            assert self._alignment.format is not None
            rate = self._alignment.format[0]
            samples = np.clip(self.combine(stretch, rate), -_LARGEST, _LARGEST).astype(np.float32, copy=False)
            given.append(Audio(from_float32(samples, self._alignment.sample_format), rate, stretch.start))
        return given

    def close(self) -> None:
        """Let go of what is held."""
        self._alignment = Alignment(self._alignment.names, self.max_skew_ms)

    @property
    def memory_bytes(self) -> int:
        """The audio that waits for the others."""
        return self._alignment.memory_bytes
