"""Decisions of data about audio, aligned by position; Gate and Switch use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from nodes.bases.alignment import SkewTooGreat
from nodes.bases.rows import of_kind, only_one
from nodes.contract import Audio, Data, InvalidInput, Item
from nodes.dsp.blocks import StreamFormat, require_order, split

__all__ = ["AlignedDecisions", "Judgement"]

Judgement = str | None
"""Name of an item's destination; None to drop the item."""


@attrs.define
class AlignedDecisions:
    """Pairs each item with its judgement: data with their own, audio with that of the data about the same time.

    With `waits`, audio is held until data cover it (`Data.at` to `Data.until`); audio that the data leave out gets the
    judgement `uncovered`. Without `waits`, a judgement is valid from its row on until the next one, and nothing is
    held.

    Attributes:
      judge: Judges the value of a data item; raises InvalidInput if it cannot.
      uncovered: Judgement of audio that no data cover.
      waits: Align by position, not by arrival.
      max_skew_ms: Greatest allowed skew between data and audio while waiting.
    """

    judge: Callable[[Mapping[str, Any]], Judgement]
    uncovered: Judgement
    waits: bool
    max_skew_ms: float
    _blocks: deque[Audio] = attrs.field(init=False, factory=deque)
    _format: StreamFormat | None = attrs.field(init=False, default=None)
    _audio_from: str | None = attrs.field(init=False, default=None)
    _data_from: str | None = attrs.field(init=False, default=None)
    _ranges: deque[tuple[float, Judgement]] = attrs.field(init=False, factory=deque)  # (until, judgement up to there)
    _origin_s: float | None = attrs.field(init=False, default=None)
    _decided_s: float | None = attrs.field(init=False, default=None)
    _stop: int = attrs.field(init=False, default=0)
    _latest: Judgement = attrs.field(init=False)
    _any_ended: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._latest = self.uncovered

    def take(self, row: Mapping[str, Sequence[Item]]) -> list[tuple[Judgement, Item]]:
        """Take a row; return all items that are decided now, with their judgements.

        Raises:
          InvalidInput: audio or data come from two nodes, or data cannot be judged. With `waits` also: data carry no
            time range, the audio changes its sample rate or channel count, or a block begins before the end of the
            previous one.
          SkewTooGreat: data or audio are too far behind.
        """
        audio_from, blocks = only_one(of_kind(row, Audio), self._audio_from, "audio")
        data_from, data = only_one(of_kind(row, Data), self._data_from, "data")
        if self.waits:
            self._check(blocks, data)
        judgements = [self.judge(item.value) for item in data]
        self._audio_from, self._data_from = audio_from, data_from
        judged: list[tuple[Judgement, Item]] = list(zip(judgements, data, strict=True))
        if not self.waits:
            self._latest = judgements[-1] if judgements else self._latest
            return [*judged, *((self._latest, block) for block in blocks)]
        for block in blocks:
            self._hold(block)
        for judgement, item in zip(judgements, data, strict=True):
            self._decide(item, judgement)
        judged.extend(self._release())
        if not self._any_ended:
            self._require_skew()
        return judged

    def end(self) -> None:
        """Lift the skew limit, because one of the upstream nodes has ended."""
        self._any_ended = True

    def finish(self) -> list[tuple[Judgement, Item]]:
        """Return the held audio with the judgement `uncovered`, because no more data will cover it."""
        return [(self.uncovered, block) for block in self._blocks]

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the audio that waits for data."""
        return sum(block.frames.nbytes for block in self._blocks)

    def _check(self, blocks: Sequence[Audio], data: Sequence[Data]) -> None:
        require_order(blocks, self._format, self._stop)
        for item in data:
            if item.at is None or item.until is None:
                raise InvalidInput("the data carry no time range (`at`, `until`): use align 'arrival'")

    def _hold(self, block: Audio) -> None:
        self._format, self._stop = (block.sample_rate, block.channels), block.stop
        self._begin(block.start / block.sample_rate)
        if len(block.frames):
            self._blocks.append(block)

    def _decide(self, item: Data, judgement: Judgement) -> None:
        assert item.at is not None
        assert item.until is not None
        self._begin(item.at)
        if self._decided_s is None or item.at > self._decided_s:
            self._extend(item.at, self.uncovered)
        if item.until > item.at:
            self._extend(item.until, judgement)

    def _begin(self, position_s: float) -> None:
        self._origin_s = position_s if self._origin_s is None else self._origin_s

    def _extend(self, until_s: float, judgement: Judgement) -> None:
        """Apply a judgement from the end of the decided time up to here; earlier decisions stay."""
        if self._decided_s is not None and until_s <= self._decided_s:
            return
        self._decided_s = until_s
        if self._ranges and self._ranges[-1][1] == judgement:
            self._ranges.pop()
        self._ranges.append((until_s, judgement))

    def _release(self) -> Iterator[tuple[Judgement, Audio]]:
        while self._blocks and self._ranges:
            until_s, judgement = self._ranges[0]
            before, after = split(self._blocks[0], round(until_s * self._blocks[0].sample_rate))
            if len(before.frames):
                yield judgement, before
            if len(after.frames):
                self._ranges.popleft()
                self._blocks[0] = after
            else:
                self._blocks.popleft()

    def _require_skew(self) -> None:
        if self._origin_s is None:
            return
        heard_s = self._origin_s if self._format is None else self._stop / self._format[0]
        decided_s = self._origin_s if self._decided_s is None else self._decided_s
        if (heard_s - decided_s) * 1000 > self.max_skew_ms:
            raise SkewTooGreat(self._data_from or "the data", (heard_s - decided_s) * 1000, self.max_skew_ms)
        if (decided_s - heard_s) * 1000 > self.max_skew_ms:
            raise SkewTooGreat(self._audio_from or "the audio", (decided_s - heard_s) * 1000, self.max_skew_ms)
