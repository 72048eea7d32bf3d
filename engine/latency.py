"""Latencies of one session, in bounded memory: a histogram whose buckets grow by one per cent."""

from __future__ import annotations

import math
from collections import defaultdict

__all__ = ["LatencyHistogram"]

_GROWTH = math.log2(1.01)
_FLOOR_MS = 0.001
_TOP = 2400


class LatencyHistogram:
    """Histogram of latencies in log-spaced buckets; percentiles are within 1 %, maximum and mean are exact.

    There are at most about 2,400 buckets, from 1 us to 6 hours, and only those in use take memory.
    """

    __slots__ = ("_buckets", "max_ms", "total_ms")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = defaultdict(int)
        self.total_ms = 0.0
        self.max_ms = 0.0

    def record(self, ms: float) -> None:
        """Record one latency, in milliseconds."""
        bucket = int(math.log2(ms / _FLOOR_MS) / _GROWTH) if ms > _FLOOR_MS else 0
        self._buckets[bucket if bucket < _TOP else _TOP] += 1
        self.total_ms += ms
        if ms > self.max_ms:
            self.max_ms = ms

    @property
    def count(self) -> int:
        """Number of recorded latencies."""
        return sum(self._buckets.values())

    @property
    def average_ms(self) -> float:
        """Mean of the recorded latencies; 0 if there are none."""
        return self.total_ms / (self.count or 1)

    def percentiles(self, *shares: float) -> list[float]:
        """Return the percentiles of these shares (0 to 1, rising), in milliseconds; 0 if nothing was recorded."""
        found: list[float] = []
        seen, count = 0, self.count
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            while len(found) < len(shares) and seen >= shares[len(found)] * count:
                found.append(min(_FLOOR_MS * 2.0 ** ((bucket + 1) * _GROWTH), self.max_ms))
        return found or [0.0] * len(shares)
