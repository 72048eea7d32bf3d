"""Holding of audio until a detector's data settle it as speech or silence, for SpeechGate and SpeechSegmenter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from math import floor, inf

import attrs

from nodes.bases.alignment import SkewTooGreat
from nodes.bases.rows import of_kind, only_one
from nodes.contract import Audio, Data, InvalidInput, Item
from nodes.dsp.blocks import StreamFormat, require_order

__all__ = ["SpeechHold"]

_ROUNDING_FRAMES = 1e-3
_SEGMENT_BYTES = 100


@attrs.define
class SpeechHold:
    """Holds audio until segments decide on it: speech passes, with its pre-roll and post-roll, and the rest is dropped.

    Segments apply to audio by position, never by the row that they come in.

    Attributes:
      pre_roll_ms: Length of the audio that passes before a segment.
      post_roll_ms: Length of the audio that passes after a segment.
      max_skew_ms: Greatest allowed skew between data and audio, in either direction.
      decided: Position up to which all audio has passed or was dropped.
    """

    pre_roll_ms: float
    post_roll_ms: float
    max_skew_ms: float
    decided: int = attrs.field(init=False, default=0)
    _blocks: deque[Audio] = attrs.field(init=False, factory=deque)
    _format: StreamFormat | None = attrs.field(init=False, default=None)
    _audio_from: str | None = attrs.field(init=False, default=None)
    _data_from: str | None = attrs.field(init=False, default=None)
    _segments: dict[float, float | None] = attrs.field(init=False, factory=dict)
    _origin_ms: float | None = attrs.field(init=False, default=None)
    _settled_ms: float | None = attrs.field(init=False, default=None)
    _stop: int = attrs.field(init=False, default=0)

    def take(self, row: Mapping[str, Sequence[Item]]) -> list[Audio]:
        """Take a row; return the audio that is now settled as speech, by position, and drop settled silence.

        Raises:
          InvalidInput: audio or data come from two nodes, the data have no segments, the audio changes its sample rate
            or channel count, or a block begins before the end of the previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        audio = self._check_audio(of_kind(row, Audio))
        data = self._check_data(of_kind(row, Data))
        self._add(*audio, *data)
        passed = list(self._release())
        self._require_skew()
        return passed

    def rest(self) -> list[Audio]:
        """Return the held audio that segments cover, and drop the rest."""
        return list(self._release(final=True))

    def _check_audio(self, given: Mapping[str, list[Audio]]) -> tuple[str | None, list[Audio]]:
        name, blocks = only_one(given, self._audio_from, "audio")
        blocks = [block for block in blocks if len(block.frames)]
        require_order(blocks, self._format, self._stop)
        return name, blocks

    def _check_data(self, given: Mapping[str, list[Data]]) -> tuple[str | None, list[Data]]:
        name, items = only_one(given, self._data_from, "data")
        for item in items:
            if not isinstance(item.value.get("segments"), list):
                raise InvalidInput(f"the data of {name!r} have no speech segments")
        return name, [item for item in items if item.until is not None]

    def _add(
        self, audio_from: str | None, blocks: Sequence[Audio], data_from: str | None, data: Sequence[Data]
    ) -> None:
        self._audio_from, self._data_from = audio_from, data_from
        for block in blocks:
            self._format = (block.sample_rate, block.channels)
            self._begin(block.start * 1000 / block.sample_rate)
            self._stop = block.stop
            self._blocks.append(block)
        for item in data:
            assert item.until is not None
            self._begin(0.0 if item.at is None else item.at * 1000)
            self._settled_ms = max(item.until * 1000, self._settled_ms or 0.0)
            for start_ms, end_ms in item.value["segments"]:
                self._segments[start_ms] = end_ms  # reported open first, closed later

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held audio, and of the segments that still apply to it or to later audio."""
        return sum(block.frames.nbytes for block in self._blocks) + _SEGMENT_BYTES * len(self._segments)

    def _begin(self, position_ms: float) -> None:
        self._origin_ms = position_ms if self._origin_ms is None else self._origin_ms

    def _release(self, *, final: bool = False) -> Iterator[Audio]:
        while self._blocks:
            block = self._blocks[0]
            here = max(self.decided, block.start)
            passes, until = self._verdict(here, final)
            stop = int(min(until, block.stop))
            if stop <= here:
                break
            if passes:
                yield Audio(block.frames[here - block.start : stop - block.start], block.sample_rate, here)
            self.decided = stop
            if stop == block.stop:
                self._blocks.popleft()
        self._forget()

    def _verdict(self, here: int, final: bool) -> tuple[bool, float]:
        """Return True if the frame at a position passes, and the end of the range for which that is settled.

        The frame is not settled yet if that end is not after it.
        """
        for start_ms, end_ms in self._segments.items():
            start, stop = self._reach(start_ms, end_ms, final)
            if start > here:
                return False, start  # segments come in order, so none can begin before a known one
            if here < stop:
                return True, stop
        if final:
            return False, inf
        if self._settled_ms is None:
            return False, here
        return False, self._settled_frame(self._settled_ms - self.pre_roll_ms)

    def _reach(self, start_ms: float, end_ms: float | None, final: bool = False) -> tuple[float, float]:
        """Return the range of frames that a segment passes; for an open segment, only the settled ones."""
        start = self._nearest(start_ms - self.pre_roll_ms)
        if end_ms is not None:
            return start, self._nearest(end_ms + self.post_roll_ms)
        if final or self._settled_ms is None:
            return start, inf
        return start, self._settled_frame(self._settled_ms + self.post_roll_ms)

    def _nearest(self, position_ms: float) -> int:
        assert self._format is not None
        return round(position_ms * self._format[0] / 1000)

    def _settled_frame(self, position_ms: float) -> int:
        """Return a frame up to which audio is safe to release: rounding of later times cannot fall before it."""
        assert self._format is not None
        return floor(position_ms * self._format[0] / 1000 - _ROUNDING_FRAMES)

    def _forget(self) -> None:
        if self._format is None:
            return
        done = [
            start_ms
            for start_ms, end_ms in self._segments.items()
            if end_ms is not None and self._reach(start_ms, end_ms)[1] <= self.decided
        ]
        for start_ms in done:
            del self._segments[start_ms]

    def _require_skew(self) -> None:
        if self._origin_ms is None:
            return
        heard_ms = self._origin_ms if self._format is None else self._stop * 1000 / self._format[0]
        settled_ms = self._origin_ms if self._settled_ms is None else self._settled_ms
        if heard_ms - settled_ms > self.max_skew_ms:
            raise SkewTooGreat(self._data_from or "the data", heard_ms - settled_ms, self.max_skew_ms)
        if settled_ms - heard_ms > self.max_skew_ms:
            raise SkewTooGreat(self._audio_from or "the audio", settled_ms - heard_ms, self.max_skew_ms)
