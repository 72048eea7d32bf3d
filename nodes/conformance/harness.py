"""A node fed with a stream, cut somehow, and what it gave: what the conformance kit stands on."""

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
"""Length of the test stream per stretch: prime, so that no block size divides it."""

Feed = Callable[[Audio | None], Any]
"""Makes what `process` takes of a block (for a Join a row), and of the end (None) what is left, if any."""


@attrs.frozen
class Outcome:
    """All that a node gave for one stream, with the audio joined into runs of contiguous frames.

    Attributes:
      runs: (start, frames) of every unbroken run of output audio.
      rate: Of the output audio in Hz, 0 if there was none.
      data: Every data item in order.
      lag: The most, in seconds, that audio and `Data.until` were behind the input after a block.
    """

    runs: list[tuple[int, Samples]]
    rate: int
    data: list[Data]
    lag: float

    @property
    def n_frames(self) -> int:
        """Frames of output audio in all."""
        return sum(len(frames) for _, frames in self.runs)


def signal(
    n_frames: int = FRAMES, channels: int = 1, sample_format: Any = "f32", rate: int = 16_000, seed: int = 7
) -> Samples:
    """A test signal, shape (n_frames, channels): tone, noise, silence, full scale, unlike in each channel."""
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
    """Blocks of the given sizes at their positions, then the rest; over memory that nobody can write to."""
    at = 0
    for size in sizes:
        if at >= len(frames):
            break
        yield block_at(frames[at : at + size], rate, start + at)
        at += size
    if at < len(frames):
        yield block_at(frames[at:], rate, start + at)


def block_at(frames: Samples, rate: int, start: int) -> Audio:
    """A block over memory of its own that nobody can write to."""
    copy = np.frombuffer(frames.tobytes(), frames.dtype).reshape(frames.shape)
    return Audio(copy, rate, start)


def blocks_of(stretches: Sequence[tuple[int, Samples]], sizes: list[int], rate: int) -> list[Audio]:
    """The blocks of a stream with gaps: `stretches` are (start, frames), each of them cut anew by `sizes`."""
    return [block for start, frames in stretches for block in cut(frames, sizes, rate, start)]


def run(node: AnyNode, blocks: Iterable[Audio], feed: Feed | None = None) -> Outcome:
    """Feed a stream, finish, and collect what came; the node stays open."""
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
    """The feed, or for None one that gives the blocks themselves."""
    return feed or (lambda block: block)


def checked(items: Iterable[Item | To]) -> list[Item]:
    """The items, without `To` around them, if each is what a node may give."""
    assert isinstance(items, Iterable), f"gave {items!r:.60}, no list of items: yield each, or return a list of them"
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
    """How far the output is behind the input; a gap in the input is not lag."""

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
    """What these items are together."""
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
