"""Test streams, cut in any way, and the outcome of a node that is fed with one; for the conformance kit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from nodes.contract import AnyNode, Audio, Data, Item, Samples, To, from_float32

__all__ = [
    "FRAMES",
    "Feed",
    "Outcome",
    "block_at",
    "blocks_of",
    "checked",
    "cut",
    "outcome_of",
    "run",
    "signal",
    "taken_by",
]

FRAMES = 4_001
"""Length of each stretch of the test stream, in frames; prime, so that no block size divides it."""

Feed = Callable[[Audio | None], Any]
"""Turns a block into the argument of `process` (for a Join a row), and None, the end, into a last one or None."""


@attrs.frozen
class Outcome:
    """Complete output of a node for one stream, with the audio joined into runs of contiguous frames.

    Attributes:
      runs: (start, frames) of every unbroken run of output audio.
      rate: Sample rate of the output audio in Hz; 0 if there was none.
      data: All data items in order.
      lag: Greatest lag of audio and `Data.until` behind the input after a block, in seconds.
    """

    runs: list[tuple[int, Samples]]
    rate: int
    data: list[Data]
    lag: float

    @property
    def n_frames(self) -> int:
        """Number of frames of output audio."""
        return sum(len(frames) for _, frames in self.runs)


def signal(
    n_frames: int = FRAMES, channels: int = 1, sample_format: Any = "f32", rate: int = 16_000, seed: int = 7
) -> Samples:
    """Return a test signal, shape (n_frames, channels): tone, noise, silence, full scale; channels differ."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(n_frames)[:, None] / rate
    tones = 0.4 * np.sin(2 * np.pi * (300 + 70 * np.arange(channels)) * seconds)
    noise = rng.uniform(-0.3, 0.3, (n_frames, channels))
    frames = (tones + noise).astype(np.float32)
    frames[n_frames // 3 : n_frames // 2] = 0.0
    frames[n_frames // 2 : n_frames // 2 + 40 : 2] = 1.0
    frames[n_frames // 2 + 1 : n_frames // 2 + 40 : 2] = -1.0
    return from_float32(frames, sample_format)


def cut(frames: Samples, sizes: Iterable[int], rate: int, start: int = 0) -> Iterator[Audio]:
    """Yield blocks of the given sizes at their positions, then the rest; their memory is read-only."""
    at = 0
    for size in sizes:
        if at >= len(frames):
            break
        yield block_at(frames[at : at + size], rate, start + at)
        at += size
    if at < len(frames):
        yield block_at(frames[at:], rate, start + at)


def block_at(frames: Samples, rate: int, start: int) -> Audio:
    """Return a block with a read-only copy of the frames."""
    copy = np.frombuffer(frames.tobytes(), frames.dtype).reshape(frames.shape)
    return Audio(copy, rate, start)


def blocks_of(stretches: Sequence[tuple[int, Samples]], sizes: list[int], rate: int) -> list[Audio]:
    """Return the blocks of a stream with gaps: `stretches` are (start, frames), each of them cut by all of `sizes`."""
    return [block for start, frames in stretches for block in cut(frames, sizes, rate, start)]


def run(node: AnyNode, blocks: Iterable[Audio], feed: Feed | None = None) -> Outcome:
    """Feed a stream to a node, finish, and return the outcome; the node stays open."""
    taken = taken_by(feed)
    items: list[Item] = []
    progress = _Progress()
    for block in blocks:
        given = checked(node.process(taken(block)))
        progress.note(block, given)
        items.extend(given)
    if feed is not None and (rest := feed(None)) is not None:
        items.extend(checked(node.process(rest)))
    items.extend(checked(node.finish()))
    return outcome_of(items, progress.lag)


def taken_by(feed: Feed | None) -> Callable[[Audio | None], Any]:
    """Return the feed, or for None a feed that returns the blocks themselves."""
    return feed or (lambda block: block)


def checked(items: Iterable[Item | To]) -> list[Item]:
    """Return the items, without `To` around them, after a check that a node may yield each of them."""
    assert isinstance(items, Iterable), (
        f"returned {items!r:.60} instead of a list of items: yield each item, or return a list"
    )
    given = [item.item if isinstance(item, To) else item for item in items]
    for item in given:
        if isinstance(item, Audio):
            assert np.isfinite(item.as_float32()).all(), "samples that are not finite"
            assert not item.frames.flags.writeable
        else:
            assert isinstance(item, Data), f"neither Audio nor Data: {item!r:.60}"
            json.dumps(dict(item.value), allow_nan=False)
    return given


@attrs.define
class _Progress:
    """Greatest lag of the output behind the input so far; a gap in the input does not count as lag."""

    lag: float = 0.0
    _stop: int = -1
    _stretch_s: float = 0.0
    _ends: dict[type, float] = attrs.field(factory=dict)

    def note(self, block: Audio, given: Sequence[Item]) -> None:
        if block.start != self._stop:
            self._stretch_s = block.start / block.sample_rate
        self._stop = block.stop
        for item in given:
            if isinstance(item, Audio):
                self._ends[Audio] = item.stop / item.sample_rate
            elif item.until is not None:
                self._ends[Data] = item.until
        reached = max(min(self._ends.values(), default=0.0), self._stretch_s)
        self.lag = max(self.lag, block.stop / block.sample_rate - reached)


def outcome_of(items: Sequence[Item], lag: float) -> Outcome:
    """Join the items of one stream into its outcome."""
    runs: list[tuple[int, list[Samples]]] = []
    rates = {item.sample_rate for item in items if isinstance(item, Audio)}
    assert len(rates) <= 1, f"several output rates: {rates}"
    stop = -math.inf
    for item in items:
        if isinstance(item, Audio):
            assert item.start >= stop, f"output goes back from frame {stop} to {item.start}"
            if not len(item.frames):
                continue
            if item.start == stop:
                runs[-1][1].append(item.frames)
            else:
                runs.append((item.start, [item.frames]))
            stop = item.stop
    joined = [(start, np.concatenate(parts)) for start, parts in runs]
    return Outcome(joined, max(rates, default=0), [item for item in items if isinstance(item, Data)], lag)
