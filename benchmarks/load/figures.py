"""Figures of a report, computed from samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.load.script import Outcome

__all__ = ["LOAD_COLUMNS", "PERCENTILES", "interval", "latency_figures", "spread", "summarize"]

PERCENTILES = {"min": 0.0, "p50": 50.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}

LOAD_COLUMNS = {
    "sessions": "sessions",
    "chunks_per_s": "chunks/s",
    "lost": "lost",
    "server_cpu_us_per_chunk": "CPU us/chunk",
    "server_rss_mb": "RSS MB",
    "server_waited_percent": "server waited %",
    "client_busy_percent": "client busy %",
    "client_late_p99_ms": "client late ms",
    "min_ms": "min ms",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "p99.9_ms": "p99.9 ms",
    "max_ms": "max ms",
    "mean_ms": "mean ms",
}
"""Columns of a table of loads: figures of `summarize`, and the number of sessions."""

_RESAMPLES = 10_000


def latency_figures(latencies_ms: npt.ArrayLike) -> dict[str, float]:
    """Return percentiles by name, such as `p99_ms`: each is a measured latency, without interpolation."""
    values = np.asarray(latencies_ms, float)
    if not values.size:
        return {f"{name}_ms": math.nan for name in PERCENTILES}
    found = np.percentile(values, list(PERCENTILES.values()), method="inverted_cdf")
    return {f"{name}_ms": float(value) for name, value in zip(PERCENTILES, found, strict=True)}


def summarize(outcome: Outcome) -> dict[str, float]:
    """Return the figures of one load."""
    return {
        "chunks": outcome.chunks,
        "lost": outcome.lost,
        "errors": outcome.failed,
        "chunks_per_s": outcome.chunks / outcome.wall_s if outcome.wall_s else math.nan,
        **latency_figures(outcome.latencies_ms),
        "mean_ms": float(np.mean(outcome.latencies_ms)) if outcome.latencies_ms.size else math.nan,
        "server_cpu_us_per_chunk": outcome.server_cpu_us_per_chunk,
        "server_rss_mb": outcome.server.rss_bytes / 1e6,
        "server_busy_percent": 100 * outcome.server.cpu_s / outcome.wall_s if outcome.wall_s else math.nan,
        "server_waited_percent": 100 * outcome.server.waited_s / outcome.wall_s if outcome.wall_s else math.nan,
        "client_busy_percent": 100 * max(outcome.client_cpu_shares, default=math.nan),
        "client_late_p99_ms": outcome.client_late_p99_ms,
    }


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest."""
    return float(np.median(values)), min(values), max(values)


def interval(
    samples: Sequence[float],
    statistic: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = lambda each: np.median(each, axis=-1),
    share: float = 0.95,
) -> tuple[float, float]:
    """Return a confidence interval by the percentile bootstrap (Efron 1979), drawn with a fixed seed.

    Args:
      samples: Independent samples, such as the ratio of each pair of runs.
      statistic: Function from shape (..., samples) to (...); by default, the median.
      share: Share of the resamples that lie within the interval.
    """
    values = np.asarray(samples, float)
    drawn = np.random.default_rng(7).choice(values, (_RESAMPLES, len(values)))
    low, high = np.percentile(statistic(drawn), [50 * (1 - share), 50 * (1 + share)])
    return float(low), float(high)
