"""Mix: the weighted sum of several streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import attrs
import numpy as np

from nodes.alignment import Alignment, Stretch
from nodes.contract import Audio, Join, from_float32, parameter

__all__ = ["Mix"]


@attrs.define
class Mix(Join):
    """Add the audio of all upstream nodes, frame by frame at the same position, each times its weight.

    Audio is held until every upstream node has reached its position; at `finish` the shorter ones are padded with
    silence. A node's gap counts as silence, a gap of all stays a gap. Rates and channel counts have to be equal; where
    sample formats differ, the sum is float32. Integers clip at full scale, float32 only where it would overflow. An
    upstream node that is more than `max_skew_ms` behind another fails the node (`SkewTooGreat`), which bounds what is
    held. One whose input has ended may be; the others' audio is held until `finish` then.
    """

    weights: dict[str, float] = parameter({}, help="upstream node id → linear factor; 1 for those not named")
    max_skew_ms: float = parameter(
        1000.0, help="how far one upstream may be behind another, in ms", above=0, at_most=3_600_000
    )
    _alignment: Alignment = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (isfinite(weight) and abs(weight) <= 1e6):
                raise ValueError(f"weights[{name!r}] must be -1e6 to 1e6, got {weight!r}")
        self._alignment = Alignment(("",), self.max_skew_ms)

    def connect(self, upstreams: Sequence[str]) -> None:
        """Learn what to wait for.

        Raises:
          ValueError: a weight is for a node that is not upstream.
        """
        names = tuple(upstreams) or ("",)
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            raise ValueError(
                f"weights: {', '.join(map(repr, unknown))} not upstream; upstream: {', '.join(map(repr, names))}"
            )
        self._alignment = Alignment(names, self.max_skew_ms)

    def process(self, row: Mapping[str, Sequence[Any]]) -> Iterable[Audio]:
        """Mix what all upstream nodes have reached.

        Raises:
          InvalidInput: rates or channel counts differ, or a block begins before its node's last one ended.
          SkewTooGreat: an upstream node is too far behind.
        """
        self._alignment.check(row)
        self._alignment.add(row)
        return self._mixed(self._alignment.take())

    def ended(self, upstream: str) -> None:
        """Wait no more for this upstream node."""
        self._alignment.end(upstream)

    def finish(self) -> Iterable[Audio]:
        """Mix the rest, padded with silence."""
        return self._mixed(self._alignment.flush())

    def _mixed(self, stretches: Iterator[Stretch]) -> list[Audio]:
        largest = float(np.finfo(np.float32).max)
        mixed: list[Audio] = []
        for stretch in stretches:
            assert self._alignment.format is not None
            total = sum(frames * np.float64(self.weights.get(name, 1.0)) for name, frames in stretch.frames.items())
            samples = np.clip(total, -largest, largest).astype(np.float32)
            formatted = from_float32(samples, self._alignment.sample_format)
            mixed.append(Audio(formatted, self._alignment.format[0], stretch.start))
        return mixed

    def close(self) -> None:
        """Let go of what is held."""
        self._alignment = Alignment(self._alignment.names, self.max_skew_ms)

    @property
    def memory_bytes(self) -> int:
        """The audio that waits for the others."""
        return self._alignment.memory_bytes
