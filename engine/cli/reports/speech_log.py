"""Log of the speech segments in a stream's results: the open ones, and totals of the closed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Segment", "SpeechLog"]


@attrs.frozen
class Segment:
    """Stretch of speech that a node found, in ms since the session began; `end_ms` is None while it is open."""

    node: str
    start_ms: float
    end_ms: float | None

    @property
    def duration_ms(self) -> float:
        """Duration in ms; 0 while the segment is open."""
        return 0.0 if self.end_ms is None else self.end_ms - self.start_ms


@attrs.define
class SpeechLog:
    """Reports each segment twice: when it opens and when it closes. Keeps only open segments and totals.

    Attributes:
      open: Segments that are open now, by node and start.
      count: Number of closed segments, by node.
      speech_ms: Total length of the closed segments, by node.
    """

    open: dict[tuple[str, float], Segment] = attrs.field(factory=dict)
    count: dict[str, int] = attrs.field(factory=dict)
    speech_ms: dict[str, float] = attrs.field(factory=dict)

    def hear(self, node: str, value: Mapping[str, Any]) -> list[Segment]:
        """Return the segments in a node's data that have just opened or closed; data of another shape has none."""
        news = []
        for segment in _segments(node, value.get("segments")):
            key = (node, segment.start_ms)
            if segment.end_ms is not None:
                self.open.pop(key, None)
                self.count[node] = self.count.get(node, 0) + 1
                self.speech_ms[node] = self.speech_ms.get(node, 0.0) + segment.duration_ms
                news.append(segment)
            elif key not in self.open:
                self.open[key] = segment
                news.append(segment)
        return news


def _segments(node: str, pairs: Any) -> list[Segment]:
    found = []
    for pair in pairs if isinstance(pairs, list) else ():
        match pair:
            case [int() | float() as start_ms, int() | float() | None as end_ms]:
                found.append(Segment(node, start_ms, end_ms))
    return found
