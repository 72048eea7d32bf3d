"""Chunker: blocks of one length, whatever length they come in."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np

from nodes.contract import Audio, Node, parameter
from nodes.dsp.blocks import StreamFormat, continues, require_format
from nodes.dsp.windows import Framing

__all__ = ["Chunker"]


@attrs.define
class _Stretch:
    """An unbroken stretch of audio."""

    format: StreamFormat
    framing: Framing
    stop: int


@attrs.define
class Chunker(Node):
    """Cut the stream anew: every block has `block_ms`, and begins with the last `overlap_ms` of the one before.

    Bit for bit, at its own positions, counted from where the stream began; every rate, format and channel count. The
    last block before a gap or the end is short, padded with zeros, or dropped (`tail`). With overlap the blocks go back
    in time: that is for nodes that take each block by itself, and not for those that join or filter a stream.
    """

    block_ms: float = parameter(20.0, help="length of a block in ms", above=0, at_most=60_000)
    overlap_ms: float = parameter(0.0, help="what a block has of the one before, in ms; less than block_ms", at_least=0)
    tail: str = parameter("short", help="what becomes of the last block", choices=("short", "pad", "drop"))
    _stretch: _Stretch | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.overlap_ms >= self.block_ms:
            raise ValueError(f"overlap_ms must be less than block_ms ({self.block_ms:g}), got {self.overlap_ms:g}")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Give the blocks that this one completes.

        Raises:
          InvalidInput: the rate, channel count or sample format is not the stream's, or the block goes back.
        """
        stretch = self._stretch
        if stretch is not None:
            require_format(item, stretch.format)
        if not len(item.frames):
            return ()
        given: list[Audio] = []
        if stretch is None or not continues(item, stretch.stop):
            given += self._tail()
            stretch = self._stretch = self._begin(item)
        stretch.stop += len(item.frames)
        framing = stretch.framing
        position, frames, count = framing.push(item.frames)
        for start in range(0, count * framing.hop, framing.hop):
            given.append(Audio(frames[start : start + framing.size], item.sample_rate, position + start))
        return given

    def _begin(self, first: Audio) -> _Stretch:
        size = max(1, round(self.block_ms * first.sample_rate / 1000))
        hop = max(1, size - round(self.overlap_ms * first.sample_rate / 1000))
        return _Stretch((first.sample_rate, first.channels), Framing(size, hop, first.start), first.start)

    def finish(self) -> Iterable[Audio]:
        """Give the last block."""
        last = self._tail()
        self._stretch = None
        return last

    def _tail(self) -> list[Audio]:
        stretch = self._stretch
        if stretch is None or self.tail == "drop" or (rest := stretch.framing.rest()) is None:
            return []
        if self.tail == "pad":
            rest = np.pad(rest, ((0, stretch.framing.size - len(rest)), (0, 0)))
        return [Audio(rest, stretch.format[0], stretch.framing.position)]

    def close(self) -> None:
        """Let go of what is held."""
        self._stretch = None

    @property
    def delay(self) -> float:
        """The length of a block, in seconds: its first frame waits for its last."""
        return self.block_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """The frames that wait for a whole block."""
        return 0 if self._stretch is None else self._stretch.framing.memory_bytes
