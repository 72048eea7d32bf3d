"""Limits and options of a session: requested by the client, clamped to the maxima of the service."""

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
"""Longest JSON text of one data item."""


@attrs.frozen
class ResourceLimits:
    """Limits of one session; in a request, 0 asks for the default.

    Attributes:
      max_memory_bytes: Accounted bytes: buffers in flight plus the memory that nodes report.
      max_timeout_ms: Time from a row's entry into the graph to the last sink's packet; in a one-shot call, the time
        of the whole call.
      max_audio_samples: Samples over all channels in one chunk; in a one-shot call, in one input.
    """

    max_memory_bytes: int = 0
    max_timeout_ms: int = 0
    max_audio_samples: int = 0

    def clamped(self, maxima: ResourceLimits) -> ResourceLimits:
        """Return these limits with the defaults filled in and none above the maxima."""
        return ResourceLimits(
            min(self.max_memory_bytes or DEFAULT_LIMITS.max_memory_bytes, maxima.max_memory_bytes),
            min(self.max_timeout_ms or DEFAULT_LIMITS.max_timeout_ms, maxima.max_timeout_ms),
            min(self.max_audio_samples or DEFAULT_LIMITS.max_audio_samples, maxima.max_audio_samples),
        )


DEFAULT_LIMITS = ResourceLimits(100_000_000, 5_000, 10_000_000)
DEFAULT_MAXIMA = ResourceLimits(1_000_000_000, 30_000, 100_000_000)


class Overflow(enum.Enum):
    """Policy for a chunk that arrives when the session is full."""

    BLOCK = "block"
    DROP_OLDEST = "drop oldest"
    DROP_NEWEST = "drop newest"


@attrs.frozen
class SessionOptions:
    """Options of one session; in a request, 0 asks for the default.

    Attributes:
      input_capacity: The session's credits: chunks and flushes that may be under way at once, from being read until
        their response is handed over (default 32, at most 1024).
      reorder_window: Rows that may wait for a missing number (default 16, at most 1024).
      reorder_timeout_ms: Longest time that a row waits for a source that has not sent its chunk (default 200, at most
        60,000).
      overflow: A full session makes the client wait, or drops chunks.
      max_age_ms: Rows that have waited longer than this to enter the graph are dropped; 0 means never.
      metrics_interval_ms: Time between periodic metrics (default 1000, at least 50).
      lean: Send results without the per-node maps.
    """

    input_capacity: int = 0
    reorder_window: int = 0
    reorder_timeout_ms: int = 0
    overflow: Overflow = Overflow.BLOCK
    max_age_ms: int = 0
    metrics_interval_ms: int = 0
    lean: bool = False


def clamp_options(options: SessionOptions) -> SessionOptions:
    """Return the options with the defaults filled in and none beyond its bounds."""
    return attrs.evolve(
        options,
        input_capacity=min(options.input_capacity or 32, 1024),
        reorder_window=min(options.reorder_window or 16, 1024),
        reorder_timeout_ms=min(options.reorder_timeout_ms or 200, 60_000),
        metrics_interval_ms=max(options.metrics_interval_ms or 1000, 50),
    )
