"""Chunker: blocks of one length."""

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
    """Cut the stream into blocks of `block_ms`, each of which begins with the last `overlap_ms` of the one before.

    Samples pass bit for bit and keep their positions. Blocks are counted from the beginning of the stream, or of a
    stretch after a gap. Any rate, format and channel count. The last block before a gap or the end is short, padded
    with zeros, or left out (`tail`). With overlap, a block begins before the end of the previous one: use it for nodes
    that process each block by itself, not for nodes that join or filter a stream.
    """

    block_ms: float = parameter(20.0, help="length of a block in ms", above=0, at_most=60_000)
    overlap_ms: float = parameter(0.0, help="overlap with the block before, in ms; less than block_ms", at_least=0)
    tail: str = parameter("short", help="treatment of the last, incomplete block", choices=("short", "pad", "drop"))
    _stretch: _Stretch | None = attrs.field(init=False, default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.overlap_ms >= self.block_ms:
            raise ValueError(f"overlap_ms must be less than block_ms ({self.block_ms:g}), got {self.overlap_ms:g}")

    def process(self, item: Audio) -> Iterable[Audio]:
        """Emit the blocks that this one completes.

        Raises:
          InvalidInput: the sample rate or channel count is not the stream's, or the block begins before the end of the
            previous one.
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
        """Emit the last block, as `tail` says."""
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
        self._stretch = None

    @property
    def delay(self) -> float:
        """Length of a block in seconds, because its first frame waits for its last."""
        return self.block_ms / 1000

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the frames that wait for a whole block."""
        return 0 if self._stretch is None else self._stretch.framing.memory_bytes
