"""Alignment of audio from several upstream nodes by position.

`AlignedJoin` is built on it. `AlignedDecisions` and `SpeechHold` align audio with data, and share `SkewTooGreat`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np

from nodes.contract import Audio, Float32, InvalidInput, SampleFormat
from nodes.dsp.blocks import StreamFormat, require_format, split

__all__ = ["Alignment", "SkewTooGreat", "Stretch", "cut_before"]


class SkewTooGreat(Exception):
    """One upstream node is too far behind another: a failure of the node, not a rejected row.

    Attributes:
      upstream: Id of the node that is behind.
      skew_ms: Time by which it is behind.
      max_skew_ms: Greatest allowed skew.
    """

    def __init__(self, upstream: str, skew_ms: float, max_skew_ms: float) -> None:
        super().__init__(f"{upstream!r} is {skew_ms:.0f} ms behind the other input (max_skew_ms is {max_skew_ms:g})")
        self.upstream = upstream
        self.skew_ms = skew_ms
        self.max_skew_ms = max_skew_ms


@attrs.frozen
class Stretch:
    """One range of positions with the frames of all upstream nodes.

    Attributes:
      start: Position of the first frame.
      frames: Upstream id → float32, shape (n, channels), the same n for all; zero where that node had no audio.
    """

    start: int
    frames: Mapping[str, Float32]


@attrs.define
class _Track:
    """Blocks of one upstream node that are not taken yet, and the position that its stream has reached."""

    blocks: deque[Audio] = attrs.field(factory=deque)
    reached: int | None = None
    sample_format: SampleFormat = "f32"


@attrs.define
class Alignment:
    """Holds the audio of each upstream node until all of them have reached its position.

    A gap in one stream counts as zeros as soon as that stream has continued after it. Where no stream has audio, no
    stretch is yielded, so the gap stays a gap. The way the streams are cut into blocks decides where one stretch ends
    and the next begins; it changes neither samples nor positions.
    """

    names: Sequence[str]
    max_skew_ms: float
    format: StreamFormat | None = attrs.field(init=False, default=None)
    _tracks: dict[str, _Track] = attrs.field(init=False)
    _origin: int | None = attrs.field(init=False, default=None)
    _ended: set[str] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._tracks = {name: _Track() for name in self.names}

    def check(self, row: Mapping[str, Sequence[Audio]]) -> None:
        """Reject a row that cannot be joined, without changing any state.

        Raises:
          InvalidInput: sample rates or channel counts differ, or a block begins before the end of its node's previous
            one.
        """
        expected = self.format
        for name, blocks in row.items():
            reached = self._tracks[name].reached
            for block in blocks:
                if not len(block.frames):
                    continue
                expected = expected or (block.sample_rate, block.channels)
                require_format(block, expected)
                if reached is not None and block.start < reached:
                    raise InvalidInput(f"{name!r} starts at frame {block.start}, but has reached frame {reached}")
                reached = block.stop

    def add(self, row: Mapping[str, Sequence[Audio]]) -> None:
        """Hold the blocks of a row that has passed `check`."""
        for name, blocks in row.items():
            track = self._tracks[name]
            for block in blocks:
                if not len(block.frames):
                    continue
                self.format = (block.sample_rate, block.channels)
                self._origin = block.start if self._origin is None else min(self._origin, block.start)
                track.blocks.append(block)
                track.reached, track.sample_format = block.stop, block.sample_format

    def end(self, name: str) -> None:
        """Exempt this upstream node from the skew limit, because it sends nothing more before `flush`."""
        self._ended.add(name)

    def take(self) -> Iterator[Stretch]:
        """Yield the stretches up to the position that all upstream nodes have reached.

        Raises:
          SkewTooGreat: after these stretches, an upstream node that has not ended is more than `max_skew_ms` behind
            another.
        """
        reached = [track.reached for track in self._tracks.values() if track.reached is not None]
        if len(reached) == len(self._tracks):
            yield from self._take_until(min(reached))
        if reached:
            self._require_skew(max(reached))

    def flush(self) -> Iterator[Stretch]:
        """Yield all held audio, padded with zeros to the longest stream, and reset to the initial state."""
        yield from self._take_until(max((track.reached or 0 for track in self._tracks.values()), default=0))
        self.format = self._origin = None
        self._ended.clear()
        self._tracks = {name: _Track() for name in self.names}

    def _require_skew(self, furthest: int) -> None:
        assert self.format is not None
        assert self._origin is not None
        for name, track in self._tracks.items():
            if name in self._ended:
                continue
            reached = self._origin if track.reached is None else track.reached
            skew_ms = (furthest - reached) * 1000 / self.format[0]
            if skew_ms > self.max_skew_ms:
                raise SkewTooGreat(name, skew_ms, self.max_skew_ms)

    def _take_until(self, until: int) -> Iterator[Stretch]:
        taken = {name: cut_before(track.blocks, until) for name, track in self._tracks.items()}
        for start, stop in _covered(block for blocks in taken.values() for block in blocks):
            yield Stretch(start, {name: self._filled(blocks, start, stop) for name, blocks in taken.items()})

    def _filled(self, blocks: Sequence[Audio], start: int, stop: int) -> Float32:
        inside = [block for block in blocks if block.start < stop and block.stop > start]
        if len(inside) == 1 and (inside[0].start, inside[0].stop) == (start, stop):
            return inside[0].as_float32()
        assert self.format is not None
        filled = np.zeros((stop - start, self.format[1]), np.float32)
        for block in inside:
            filled[block.start - start : block.stop - start] = block.as_float32()
        return filled

    @property
    def sample_format(self) -> SampleFormat:
        """Sample format of the upstream nodes; f32 if theirs differ."""
        formats = {track.sample_format for track in self._tracks.values() if track.reached is not None}
        return formats.pop() if len(formats) == 1 else "f32"

    @property
    def memory_bytes(self) -> int:
        """Number of bytes of the held blocks."""
        return sum(block.frames.nbytes for track in self._tracks.values() for block in track.blocks)


def cut_before(blocks: deque[Audio], until: int) -> list[Audio]:
    """Remove and return the audio before a position; a block that contains the position is cut there."""
    taken: list[Audio] = []
    while blocks and blocks[0].start < until:
        block = blocks.popleft()
        if block.stop > until:
            block, rest = split(block, until)
            blocks.appendleft(rest)
        taken.append(block)
    return taken


def _covered(blocks: Iterator[Audio]) -> list[tuple[int, int]]:
    """Return the unbroken ranges of positions that the blocks cover, in order."""
    ranges: list[tuple[int, int]] = []
    for start, stop in sorted((block.start, block.stop) for block in blocks):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
        else:
            ranges.append((start, stop))
    return ranges
