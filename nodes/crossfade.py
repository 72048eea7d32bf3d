"""Crossfade: a fade from one stream to another."""

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

    Before `at_ms` only the first is heard, and `duration_ms` later only the second. In between, x goes from 0 to 1, and
    the gains are 1 - x and x (`linear`: keeps the amplitude of like signals) or cosine and sine of x·π/2
    (`equal_power`: keeps the power of unlike signals). Frames are aligned by position as in Mix, with the same rules
    for gaps, formats, `max_skew_ms` and the end.
    """

    at_ms: float = parameter(
        0.0, help="beginning of the fade, in ms since the session began", at_least=0, at_most=86_400_000
    )
    duration_ms: float = parameter(1_000.0, help="length of the fade, in ms; 0 is a cut", at_least=0, at_most=3_600_000)
    curve: str = parameter("equal_power", help="shape of the gains", choices=("equal_power", "linear"))

    def connect(self, upstreams: Sequence[str]) -> None:
        """Set the two upstream nodes to wait for.

        Raises:
          ValueError: there are not exactly two.
        """
        if len(upstreams) != 2:
            raise ValueError(f"a crossfade needs two upstream nodes, there are {len(upstreams)}")
        super().connect(upstreams)

    def combine(self, stretch: Stretch, sample_rate: int) -> Samples:
        """Add both streams, each with its gain."""
        first, second = stretch.frames.values()
        x = self._progress(stretch.start, len(first), sample_rate)
        falling, rising = 1.0 - x, x
        if self.curve == "equal_power":
            falling, rising = np.sin(falling * (np.pi / 2)), np.sin(rising * (np.pi / 2))
        faded: Samples = first * falling + second * rising
        return faded

    def _progress(self, start: int, n_frames: int, sample_rate: int) -> Samples:
        """Return the progress of the fade at each frame, 0 to 1; float64, shape (n_frames, 1)."""
        since_ms = np.arange(start, start + n_frames)[:, np.newaxis] * (1000 / sample_rate) - self.at_ms
        if self.duration_ms == 0:
            return np.asarray(since_ms >= 0, np.float64)
        progress: Samples = np.clip(since_ms / self.duration_ms, 0.0, 1.0)
        return progress
