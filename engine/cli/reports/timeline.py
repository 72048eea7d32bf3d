"""Strips of text that show a stream's level and speech over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from engine.cli.reports.speech_log import Segment

__all__ = ["Timeline"]

_QUIET_DBFS, _LOUD_DBFS = -60.0, -12.0
_BARS = "▁▂▃▄▅▆▇█"
_SPEECH, _SILENCE, _UNHEARD = "█", "─", " "


@attrs.define
class Timeline:
    """Levels and speech in columns of equal duration; the size does not depend on the length of the stream.

    Shows the first node that emits levels (`rms_dbfs`) and the first that emits speech segments.
    """

    duration_s: float
    columns: int = 60
    _levels: list[float | None] = attrs.field(init=False)
    _spoken: list[bool] = attrs.field(init=False)
    _level_node: str | None = attrs.field(init=False, default=None)
    _speech_node: str | None = attrs.field(init=False, default=None)
    _open: Segment | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._levels = [None] * self.columns
        self._spoken = [False] * self.columns

    def _column(self, at_s: float) -> int:
        return min(max(int(at_s / self.duration_s * self.columns), 0), self.columns - 1) if self.duration_s else 0

    def level(self, node: str, value: Mapping[str, Any]) -> None:
        """Add the level in a node's data; data without one is ignored."""
        dbfs, at_ms = value.get("rms_dbfs"), value.get("timestamp_ms")
        if not isinstance(dbfs, (int, float)) or not isinstance(at_ms, (int, float)):
            return
        self._level_node = self._level_node or node
        if node == self._level_node:
            column = self._column(at_ms / 1000)
            before = self._levels[column]
            self._levels[column] = dbfs if before is None else max(before, dbfs)

    def speech(self, segment: Segment) -> None:
        """Add a segment that has just opened or closed."""
        self._speech_node = self._speech_node or segment.node
        if segment.node != self._speech_node:
            return
        self._open = segment if segment.end_ms is None else None
        if segment.end_ms is not None:
            self._spoken = self._with(segment.start_ms / 1000, segment.end_ms / 1000)

    def _with(self, start_s: float, end_s: float) -> list[bool]:
        """Return the columns with speech, together with those whose middle lies between these times."""
        width_s = self.duration_s / self.columns
        return [spoken or start_s <= (column + 0.5) * width_s <= end_s for column, spoken in enumerate(self._spoken)]

    def level_strip(self) -> str:
        """Return one character for each column, or "" if there was no level yet."""
        return "".join(map(_bar, self._levels)) if self._level_node else ""

    def speech_strip(self, heard_s: float) -> str:
        """Return one character for each column, blank from `heard_s` on, or "" if there was no speech yet."""
        if self._speech_node is None:
            return ""
        spoken = self._spoken if self._open is None else self._with(self._open.start_ms / 1000, heard_s)
        heard = self.columns if heard_s >= self.duration_s else self._column(heard_s)
        strip = "".join(_SPEECH if each else _SILENCE for each in spoken[:heard])
        return strip.ljust(self.columns, _UNHEARD)


def _bar(dbfs: float | None) -> str:
    if dbfs is None:
        return " "
    share = (dbfs - _QUIET_DBFS) / (_LOUD_DBFS - _QUIET_DBFS)
    return _BARS[min(max(int(share * len(_BARS)), 0), len(_BARS) - 1)]
