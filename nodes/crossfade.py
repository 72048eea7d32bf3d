"""Crossfade: from one stream to another."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from nodes.bases.aligned_join import AlignedJoin
from nodes.bases.alignment import Stretch
from nodes.contract import Samples, parameter

__all__ = ["Crossfade"]


@attrs.define
class Crossfade(AlignedJoin):
    """Fade from the first upstream node's audio to the second's, in the order of the connections.

    Before `at_ms` of the stream the first is heard alone, after `duration_ms` more the second. In between the gains
    are, for x from 0 to 1, 1 - x and x (`linear`: for like signals, keeps the amplitude) or cos and sin of x·π/2
    (`equal_power`: for unlike signals, keeps the power). Frames are put together by position, as in Mix, and the rules
    for gaps, formats, `max_skew_ms` and the end are the same.
    """

    at_ms: float = parameter(
        0.0, help="where the fade begins, in ms since the session began", at_least=0, at_most=86_400_000
    )
    duration_ms: float = parameter(1_000.0, help="how long it takes, in ms; 0 is a cut", at_least=0, at_most=3_600_000)
    curve: str = parameter("equal_power", help="shape of the gains", choices=("equal_power", "linear"))

    def connect(self, upstreams: Sequence[str]) -> None:
        """Learn from where to where.

        Raises:
          ValueError: there are not two upstream nodes.
        """
        if len(upstreams) != 2:
            raise ValueError(f"a crossfade is between two upstream nodes, there are {len(upstreams)}")
        super().connect(upstreams)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """The sum of both, each with its gain."""
        first, second = stretch.frames.values()
        x = self._progress(stretch.start, len(first), sample_rate)
        falling, rising = 1.0 - x, x
        if self.curve == "equal_power":
            falling, rising = np.sin(falling * (np.pi / 2)), np.sin(rising * (np.pi / 2))
        faded: Samples = first * falling + second * rising
        return faded

    def _progress(self, start: int, n_frames: int, sample_rate: int) -> Samples:
        """How far the fade is at each frame, 0 to 1; float64, shape (n_frames, 1)."""
        since_ms = np.arange(start, start + n_frames)[:, np.newaxis] * (1000 / sample_rate) - self.at_ms
        if self.duration_ms == 0:
            return np.asarray(since_ms >= 0, np.float64)
        progress: Samples = np.clip(since_ms / self.duration_ms, 0.0, 1.0)
        return progress
