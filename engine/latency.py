"""Latencies of one session, in bounded memory: a histogram whose buckets grow by one per cent."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["LatencyHistogram"]

_GROWTH = math.log(1.01)
_FLOOR_MS = 0.001
_LAST_BUCKET = 2400
_FRESH = 128


class LatencyHistogram:
    """Counts latencies from 1 us up, in log-spaced buckets: percentiles are within 1 %, maximum and mean exact.

    There are at most about 2,400 buckets (1 us to 10 hours), and only those that are hit take memory. Latencies are
    put into them some hundred at a time, which costs a tenth of doing it for each.
    """

    __slots__ = ("_buckets", "_fresh", "_max_ms", "_total_ms", "count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._fresh: list[float] = []
        self.count = 0
        self._total_ms = 0.0
        self._max_ms = 0.0

    def record(self, ms: float) -> None:
        """Count one latency, in milliseconds."""
        self.count += 1
        self._fresh.append(ms)
        if len(self._fresh) >= _FRESH:
            self._fold()

    def _fold(self) -> None:
        if not self._fresh:
            return
        fresh = np.array(self._fresh)
        self._fresh.clear()
        self._total_ms += float(fresh.sum())
        self._max_ms = max(self._max_ms, float(fresh.max()))
        places = np.log(np.maximum(fresh, _FLOOR_MS) / _FLOOR_MS) / _GROWTH
        buckets, counts = np.unique(np.minimum(places.astype(np.int64), _LAST_BUCKET), return_counts=True)
        for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    @property
    def max_ms(self) -> float:
        """The longest; 0 when nothing has been counted."""
        self._fold()
        return self._max_ms

    @property
    def average_ms(self) -> float:
        """Mean; 0 when nothing has been counted."""
        self._fold()
        return self._total_ms / self.count if self.count else 0.0

    def percentiles(self, *shares: float) -> list[float]:
        """The latencies that these shares (0 to 1, rising) of all stay within; 0 when nothing has been counted."""
        self._fold()
        found: list[float] = []
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            while len(found) < len(shares) and seen >= shares[len(found)] * self.count:
                found.append(min(_FLOOR_MS * math.exp((bucket + 1) * _GROWTH), self._max_ms))
        return found or [0.0] * len(shares)
