"""What a session may use: what clients ask, clamped to what the service allows."""

from __future__ import annotations

import enum

import attrs

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_MAXIMA",
    "MAX_DATA_BYTES",
    "MAX_SEQUENCE",
    "Overflow",
    "ResourceLimits",
    "SessionOptions",
    "clamp_options",
]

MAX_SEQUENCE = 2**64 - 1
MAX_DATA_BYTES = 1 << 20
"""JSON text of one data item."""


@attrs.frozen
class ResourceLimits:
    """Limits of one session; in a request, 0 asks for the default.

    Attributes:
      max_memory_bytes: Accounted bytes, that is buffers in flight and what nodes report.
      max_timeout_ms: From a row's entering the graph to the last sink's packet; of a one-shot call, the whole of it.
      max_audio_samples: Samples over all channels in one chunk; of a one-shot call, in one input.
    """

    max_memory_bytes: int = 0
    max_timeout_ms: int = 0
    max_audio_samples: int = 0

    def clamped(self, maxima: ResourceLimits) -> ResourceLimits:
        """These limits with the defaults filled in, and none above the maxima."""
        return ResourceLimits(
            min(self.max_memory_bytes or DEFAULT_LIMITS.max_memory_bytes, maxima.max_memory_bytes),
            min(self.max_timeout_ms or DEFAULT_LIMITS.max_timeout_ms, maxima.max_timeout_ms),
            min(self.max_audio_samples or DEFAULT_LIMITS.max_audio_samples, maxima.max_audio_samples),
        )


DEFAULT_LIMITS = ResourceLimits(100_000_000, 5_000, 10_000_000)
DEFAULT_MAXIMA = ResourceLimits(1_000_000_000, 30_000, 100_000_000)


class Overflow(enum.Enum):
    """What happens to a chunk that finds the session full."""

    BLOCK = "block"
    DROP_OLDEST = "drop oldest"
    DROP_NEWEST = "drop newest"


@attrs.frozen
class SessionOptions:
    """How a session treats its chunks; in a request, 0 asks for the default.

    Attributes:
      input_capacity: Chunks and flushes that may be under way at once, from being read to their response's being
        handed over: the session's credits (default 32, at most 1024).
      reorder_window: Rows that may wait for a hole to fill (default 16, at most 1024).
      reorder_timeout_ms: How long a row waits for a source that has not given its chunk (default 200, at most 60,000).
      overflow: Whether a full session makes the client wait or drops.
      max_age_ms: A row that has waited longer than this to enter the graph is dropped; 0 is never.
      metrics_interval_ms: Between periodic metrics (default 1000, at least 50).
      lean: Results without per-node maps.
    """

    input_capacity: int = 0
    reorder_window: int = 0
    reorder_timeout_ms: int = 0
    overflow: Overflow = Overflow.BLOCK
    max_age_ms: int = 0
    metrics_interval_ms: int = 0
    lean: bool = False


def clamp_options(options: SessionOptions) -> SessionOptions:
    """The options with defaults filled in, and none beyond its bounds."""
    return attrs.evolve(
        options,
        input_capacity=min(options.input_capacity or 32, 1024),
        reorder_window=min(options.reorder_window or 16, 1024),
        reorder_timeout_ms=min(options.reorder_timeout_ms or 200, 60_000),
        metrics_interval_ms=max(options.metrics_interval_ms or 1000, 50),
    )
