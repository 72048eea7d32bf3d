"""Speech segments from frame decisions: the smoothing of VAD, and the merging of its rows.

A segment is `[start_ms, end_ms]`, or `[start_ms, None]` while it is open, in milliseconds since the session began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

__all__ = ["Segment", "Segmenter", "merge_segments", "milliseconds"]

Segment = list[float | None]

_ROUNDING_MS = 1e-6
_42_BITS = 2.0**42


def milliseconds(exact: float) -> float:
    """Round a time in ms to the microsecond, as in all reports, so that the same moment is always the same number.

    The result is that of `round(exact, 3)`, without its conversion to decimal text: a fraction of at most 42 bits, like
    every one from 1024 ms on, is still exact times 1000, and so can be rounded as a whole number of microseconds.
    """
    fraction = exact % 1.0
    if not fraction:
        return exact
    if fraction * _42_BITS % 1.0 or not 0.0 < exact < _42_BITS:
        return round(exact, 3)
    return ((exact - fraction) * 1000.0 + round(fraction * 1000.0)) / 1000.0


@attrs.define
class Segmenter:
    """Joins decisions into segments, and knows at any time up to which point they are final.

    A segment opens after `min_speech_ms` of unbroken speech and closes after `min_silence_ms` without any; it reaches
    from `padding_ms` before the first speech frame to `padding_ms` after the last. Segments do not overlap: where
    padding would, the later one begins at the earlier one's end. Nothing begins before `origin_ms`.

    `padding_ms` must not exceed `min_silence_ms`, so that a segment never ends later than the silence that closes it.

    Attributes:
      decided_ms: Time up to which decisions were taken.
      open_ms: Start of the open segment; None if none is open.
    """

    min_speech_ms: float
    min_silence_ms: float
    padding_ms: float
    origin_ms: float
    decided_ms: float = attrs.field(init=False)
    open_ms: float | None = attrs.field(init=False, default=None)
    _floor_ms: float = attrs.field(init=False)
    _run_ms: float | None = attrs.field(init=False, default=None)
    _speech_end_ms: float = attrs.field(init=False)
    _closed: list[Segment] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.decided_ms = self._floor_ms = self._speech_end_ms = self.origin_ms

    def speech_until(self, end_ms: float) -> bool:
        """Take the time from `decided_ms` to here as speech; return True if that opened a segment."""
        if self._run_ms is None:
            self._run_ms = self.decided_ms
        self.decided_ms = self._speech_end_ms = end_ms
        if self.open_ms is not None or end_ms - self._run_ms < self.min_speech_ms - _ROUNDING_MS:
            return False
        self.open_ms = max(self._run_ms - self.padding_ms, self._floor_ms)
        return True

    def silence_until(self, end_ms: float) -> bool:
        """Take the time from `decided_ms` to here as silence or a gap; return True if that closed a segment."""
        self._run_ms = None
        self.decided_ms = end_ms
        if self.open_ms is None or end_ms - self._speech_end_ms < self.min_silence_ms - _ROUNDING_MS:
            return False
        return self._close(self._speech_end_ms + self.padding_ms)

    def end_at(self, end_ms: float) -> bool:
        """End the stream here; return True if that closed a segment."""
        if self.open_ms is None:
            return False
        return self._close(min(self._speech_end_ms + self.padding_ms, end_ms))

    def _close(self, end_ms: float) -> bool:
        assert self.open_ms is not None
        self._closed.append([milliseconds(self.open_ms), milliseconds(end_ms)])
        self._floor_ms, self.open_ms = end_ms, None
        return True

    @property
    def settled_ms(self) -> float:
        """Time up to which nothing can change: audio in a segment is speech, all other audio is silence."""
        if self.open_ms is not None:
            return self._speech_end_ms + self.padding_ms
        pending_ms = self.decided_ms if self._run_ms is None else self._run_ms
        return max(pending_ms - self.padding_ms, self._floor_ms)

    def take(self) -> list[Segment]:
        """Return the segments that closed since the last call, and the open one, if any."""
        taken, self._closed = self._closed, []
        if self.open_ms is not None:
            taken.append([milliseconds(self.open_ms), None])
        return taken


def merge_segments(rows: Iterable[Sequence[Segment]]) -> list[Segment]:
    """Merge the segments of several rows: each once, identified by its start, and closed if any row closed it."""
    ends: dict[float | None, float | None] = {}
    for segments in rows:
        for start_ms, end_ms in segments:
            ends[start_ms] = end_ms if end_ms is not None else ends.get(start_ms)
    return [[start_ms, end_ms] for start_ms, end_ms in ends.items()]
