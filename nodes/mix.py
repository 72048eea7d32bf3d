"""Mix: the weighted sum of several streams."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import attrs
import numpy as np

from nodes.bases.aligned_join import AlignedJoin
from nodes.bases.alignment import Stretch
from nodes.contract import Samples, parameter

__all__ = ["Mix"]


@attrs.define
class Mix(AlignedJoin):
    """Add the audio of all upstream nodes, frame by frame at the same position, each times its weight.

    Audio is held until every upstream node has reached its position; at the end, shorter streams are padded with
    silence. A gap in one stream counts as silence; a gap in all of them stays a gap. Sample rates and channel counts
    must be equal; if sample formats differ, the sum is float32. Integers clip at full scale, float32 only where it
    would overflow. An upstream node that is more than `max_skew_ms` behind another fails the node (`SkewTooGreat`),
    which bounds the held audio. One whose input has ended is exempt: the others' audio is then held until the end.
    """

    weights: dict[str, float] = parameter({}, help="upstream node id → linear factor; 1 for nodes not named")

    def __attrs_post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (isfinite(weight) and abs(weight) <= 1e6):
                raise ValueError(f"weights[{name!r}] must be -1e6 to 1e6, got {weight!r}")
        super().__attrs_post_init__()

    def connect(self, upstreams: Sequence[str]) -> None:
        """Set the upstream nodes to wait for.

        Raises:
          ValueError: a weight is for a node that is not upstream.
        """
        super().connect(upstreams)
        names = self._alignment.names
        unknown = [name for name in self.weights if name not in names]
        if unknown:
            raise ValueError(
                f"weights: {', '.join(map(repr, unknown))} not upstream; upstream: {', '.join(map(repr, names))}"
            )

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """Compute the weighted sum."""
        total: Samples = np.sum(
            [frames * np.float64(self.weights.get(name, 1.0)) for name, frames in stretch.frames.items()], axis=0
        )
        return total
