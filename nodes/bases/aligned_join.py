"""Base class of Mix, ChannelMerge and Crossfade: a `Join` that combines audio by position."""

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
    """Base of the nodes that combine the audio of all upstream nodes, frame by frame at the same position.

    Audio is held until every upstream node has reached its position; at `finish` the shorter streams are padded with
    silence. A gap in one stream counts as silence; a gap in all of them stays a gap. Sample rates and channel counts
    must be equal; if sample formats differ, the output is float32. An upstream node that is more than `max_skew_ms`
    behind another fails the node (`SkewTooGreat`), which bounds the held audio. One that has ended is exempt.
    """

    max_skew_ms: float = parameter(
        1000.0, help="most that one upstream node may be behind another, in ms", above=0, at_most=3_600_000
    )
    _alignment: Alignment = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._alignment = Alignment(("",), self.max_skew_ms)

    def connect(self, upstreams: Sequence[str]) -> None:
        """Set the upstream nodes to wait for."""
        self._alignment = Alignment(tuple(upstreams) or ("",), self.max_skew_ms)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """Combine the same frames of all upstream nodes, whose ids are in the order of the connections.

        Returns:
          Float, shape (n, channels); the caller clips values beyond float32's range to it.
        """
        raise NotImplementedError

    def process(self, row: Mapping[str, Sequence[Any]]) -> Iterable[Audio]:
        """Combine the audio up to the position that all upstream nodes have reached.

        Raises:
          InvalidInput: sample rates or channel counts differ, or a block begins before the end of its node's previous
            one, or holds NaN or infinity.
          SkewTooGreat: an upstream node is too far behind.
        """
        for blocks in row.values():
            for block in blocks:
                require_finite(block)
        self._alignment.check(row)
        self._alignment.add(row)
        return self._combined(self._alignment.take())

    def ended(self, upstream: str) -> None:
        """Exempt this upstream node from the skew limit."""
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
        self._alignment = Alignment(self._alignment.names, self.max_skew_ms)

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio that waits for other upstream nodes."""
        return self._alignment.memory_bytes
