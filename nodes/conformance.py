"""The conformance kit: one battery of checks for every node, the built-in ones and yours.

    from nodes.conformance import check_node

    def test_my_node() -> None:
        check_node(MyNode, rates=(16_000, 48_000), faults=[{"cutoff_hz": -1}])

It needs neither pytest nor the engine: plain asserts over what the node gives for a stream, however cut.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from nodes.contract import AnyNode, Audio, Data, InvalidInput, Item, Join, Samples, To, from_float32

__all__ = ["Outcome", "Report", "blocks_of", "check_node", "cut", "run", "same_length", "signal"]

FRAMES = 4_001
"""Length of the test stream per stretch: prime, so that no block size divides it."""

Feed = Callable[[Audio | None], Any]
"""Makes what `process` takes of a block (for a Join a row), and of the end (None) what is left, if any."""

Report = Callable[[str, Callable[[], None]], None]
"""Is given a check's name, and the check to run, which raises if the node fails it."""


@attrs.frozen
class Outcome:
    """All that a node gave for one stream, with the audio joined into runs of contiguous frames.

    Attributes:
      runs: (start, frames) of every unbroken run of output audio.
      rate: of the output audio in Hz, 0 if there was none.
      data: every data item in order.
      lag: the most, in seconds, that audio and `Data.until` were behind the input after a block.
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
        yield _block(frames[at : at + size], rate, start + at)
        at += size
    if at < len(frames):
        yield _block(frames[at:], rate, start + at)


def _block(frames: Samples, rate: int, start: int) -> Audio:
    copy = np.frombuffer(frames.tobytes(), frames.dtype).reshape(frames.shape)
    return Audio(copy, rate, start)


def _cuttings() -> Iterator[list[int]]:
    yield []
    yield [160, 0] * 40
    rng = np.random.default_rng(11)
    yield [0, 1, 1, 1, 0, *rng.choice([1, 2, 7, 0, 333, 480, 901], 60).tolist()]
    yield [1] * 64 + [1_500]


def blocks_of(stretches: Sequence[tuple[int, Samples]], sizes: list[int], rate: int) -> list[Audio]:
    """The blocks of a stream with gaps: `stretches` are (start, frames), each of them cut anew by `sizes`."""
    return [block for start, frames in stretches for block in cut(frames, sizes, rate, start)]


def run(node: AnyNode, blocks: Iterable[Audio], feed: Feed | None = None) -> Outcome:
    """Feed a stream, finish, and collect what came; the node stays open."""
    taken = _taken(feed)
    items: list[Item] = []
    progress = _Progress()
    for block in blocks:
        given = _checked(node.process(taken(block)))
        progress.note(block, given)
        items.extend(given)
    if feed is not None and (rest := feed(None)) is not None:
        items.extend(_checked(node.process(rest)))
    items.extend(_checked(node.finish()))
    return _outcome(items, progress.lag)


def _taken(feed: Feed | None) -> Callable[[Audio | None], Any]:
    return feed or (lambda block: block)


def _checked(items: Iterable[Item | To]) -> list[Item]:
    given = [item.item if isinstance(item, To) else item for item in items]
    for item in given:
        if isinstance(item, Audio):
            assert np.isfinite(item.as_float32()).all(), "samples that are not finite"
            assert not item.frames.flags.writeable
        else:
            assert isinstance(item, Data), f"neither Audio nor Data: {item!r}"
            json.dumps(dict(item.value), allow_nan=False)
    return given


@attrs.define
class _Progress:
    """How far the output is behind the input; a gap in the input is not lag."""

    lag: float = 0.0
    _stop: int = -1
    _stretch_seconds: float = 0.0
    _ends: dict[type, float] = attrs.field(factory=dict)

    def note(self, block: Audio, given: Sequence[Item]) -> None:
        if block.start != self._stop:
            self._stretch_seconds = block.start / block.sample_rate
        self._stop = block.stop
        for item in given:
            if isinstance(item, Audio):
                self._ends[Audio] = item.stop / item.sample_rate
            elif item.until is not None:
                self._ends[Data] = item.until
        reached = max(min(self._ends.values(), default=0.0), self._stretch_seconds)
        self.lag = max(self.lag, block.stop / block.sample_rate - reached)


def _outcome(items: Sequence[Item], lag: float) -> Outcome:
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


def _same(first: Outcome, second: Outcome, node: AnyNode, tolerance: float, settled: Any) -> None:
    """Assert that two outcomes are the same samples at the same places, and the same findings."""
    assert [(start, frames.shape) for start, frames in first.runs] == [
        (start, frames.shape) for start, frames in second.runs
    ], "positions or lengths differ"
    for (_, one), (_, other) in zip(first.runs, second.runs, strict=True):
        assert one.dtype == other.dtype
        if tolerance == 0:
            assert np.array_equal(one, other), "samples differ"
        else:
            step = 1.0 if one.dtype == np.float32 else float(np.iinfo(one.dtype).max)
            least = 0.0 if one.dtype == np.float32 else 1.0
            off = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0)
            assert off <= max(least, tolerance * step), f"samples differ by {off / step}"
    assert settled(_joined(first, node)) == settled(_joined(second, node)), "findings differ"


def _joined(outcome: Outcome, node: AnyNode) -> Mapping[str, Any] | None:
    if not outcome.data:
        return None
    value = dict(node.join(outcome.data).value)
    json.dumps(value, allow_nan=False)
    return value


@attrs.frozen
class _Case:
    """One node kind under one format; each check is a method."""

    make_node: Callable[..., AnyNode]
    make_feed: Callable[[], Feed] | None
    rate: int
    channels: int
    sample_format: str
    tolerance: float
    findings: Callable[[Mapping[str, Any] | None], Any]
    length: Callable[[int, int], int] | None
    keeps_format: bool
    waits: bool

    def feed(self) -> Feed | None:
        return self.make_feed() if self.make_feed else None

    def frames(self, n_frames: int = FRAMES, seed: int = 7) -> Samples:
        return signal(n_frames, self.channels, self.sample_format, self.rate, seed)

    def run(self, node: AnyNode, stretches: Sequence[tuple[int, Samples]], sizes: list[int]) -> Outcome:
        return run(node, blocks_of(stretches, sizes, self.rate), self.feed())

    def checks(self, refuse: Callable[[Audio], Any] | None) -> dict[str, Callable[[], None]]:
        """Every check that applies, by name."""
        checks: dict[str, Callable[[], None]] = {
            "cut anyhow": lambda: self.check_cuts(start=0, gap=None),
            "cut anyhow with a gap": lambda: self.check_cuts(start=480, gap=1_234),
            "nothing and one frame": self.check_small,
            "fresh after finish": self.check_fresh,
            "closed at any time": self.check_close,
        }
        if self.sample_format == "f32":
            checks["NaN leaves no trace"] = self.check_nan
        if refuse is not None:
            checks["refusal leaves no trace"] = lambda: self.check_refusal(refuse)
        return checks

    def check_cuts(self, start: int, gap: int | None) -> None:
        """However the stream is cut: the same samples, findings, positions and exact length."""
        stretches = [(start, self.frames())]
        if gap is not None:
            stretches.append((start + FRAMES + gap, self.frames(seed=8)))
        first: Outcome | None = None
        for sizes in _cuttings():
            node = self.make_node()
            outcome = self.run(node, stretches, sizes)
            if first is None:
                first = outcome
            _same(first, outcome, node, self.tolerance, self.findings)
            self.check_places(outcome, stretches)
            if self.keeps_format:
                assert {frames.dtype for _, frames in outcome.runs} <= {stretches[0][1].dtype}, "another format"
            rounding = 2.0 / min(self.rate, outcome.rate or self.rate)
            assert outcome.lag <= node.delay + rounding or not self._timed(outcome), (
                f"the output lags by {outcome.lag} s, said to be {node.delay} s"
            )
            node.close()

    def _timed(self, outcome: Outcome) -> bool:
        return not self.waits and self.length is not None and bool(outcome.n_frames or outcome.data)

    def check_places(self, outcome: Outcome, stretches: Sequence[tuple[int, Samples]]) -> None:
        if self.length is None or not outcome.rate:
            return
        wanted = [
            (start * outcome.rate // self.rate, self.length(len(frames), self.rate)) for start, frames in stretches
        ]
        assert [(start, len(frames)) for start, frames in outcome.runs] == wanted, "positions or length"

    def check_small(self) -> None:
        """Nothing, an empty block and one frame are streams too."""
        node = self.make_node()
        assert not list(node.finish()), "a fresh node has nothing to finish"
        empty = self.run(node, [], [])
        assert not empty.n_frames
        nothing = _block(self.frames(0), self.rate, 0)
        assert not run(node, [nothing], self.feed()).n_frames
        one = self.run(node, [(5, self.frames(1))], [])
        if one.rate and self.length is not None:
            assert one.n_frames == self.length(1, self.rate)
        node.close()

    def check_fresh(self) -> None:
        """`finish` leaves the node as new: nothing more to finish, and the same again for the same stream."""
        node, stretches, sizes = self.make_node(), [(480, self.frames())], [160] * 30
        first = self.run(node, stretches, sizes)
        assert not list(node.finish()), "finish gave something the second time"
        assert node.memory_bytes == self.make_node().memory_bytes, "memory held after finish"
        _same(first, self.run(node, stretches, sizes), node, 0.0, self.findings)
        node.close()

    def check_close(self) -> None:
        """`close` works on a new node and in the middle of a stream; figures can be asked at any time."""
        self.make_node().close()
        node, feed = self.make_node(), _taken(self.feed())
        list(node.process(feed(_block(self.frames(700), self.rate, 0))))
        assert math.isfinite(node.delay)
        assert node.delay >= 0
        assert isinstance(node.memory_bytes, int)
        assert node.memory_bytes >= 0
        json.dumps(dict(node.custom_metrics()), allow_nan=False)
        node.close()

    def check_nan(self) -> None:
        """A block with NaN is refused without a trace, or is forgotten by `finish`; it is no failure."""
        frames = self.frames(700)
        poisoned = frames.copy()
        poisoned[350] = np.nan
        node, feed = self.make_node(), _taken(self.feed())
        with contextlib.suppress(InvalidInput):
            list(node.process(feed(_block(poisoned, self.rate, 0))))
        list(node.finish())
        _same(
            self.run(self.make_node(), [(0, frames)], []), self.run(node, [(0, frames)], []), node, 0.0, self.findings
        )
        node.close()

    def check_refusal(self, refuse: Callable[[Audio], Any]) -> None:
        """An item that is refused in the middle of the stream leaves no trace."""
        blocks = blocks_of([(0, self.frames())], [500] * 8, self.rate)
        plain = self.make_node()
        expected = run(plain, blocks, self.feed())
        node = self.make_node()
        feed = _taken(self.feed())
        items: list[Item] = []
        for index, block in enumerate(blocks):
            if index == 4:
                _expect(InvalidInput, lambda block=block: list(node.process(refuse(block))))  # type: ignore[misc]
            items.extend(_checked(node.process(feed(block))))
        if self.make_feed and (rest := feed(None)) is not None:
            items.extend(_checked(node.process(rest)))
        items.extend(_checked(node.finish()))
        _same(expected, _outcome(items, 0.0), node, 0.0, self.findings)


def _expect(error: type[Exception], call: Callable[[], Any]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def same_length(n_frames: int, rate: int) -> int:
    """A node that gives as many frames as it takes."""
    del rate
    return n_frames


def check_node(
    make_node: Callable[..., AnyNode],
    *,
    feed: Callable[[], Feed] | None = None,
    formats: Sequence[str] = ("f32", "i16", "i32"),
    rates: Sequence[int] = (16_000,),
    channels: Sequence[int] = (1, 2),
    tolerance: float = 0.0,
    length: Callable[[int, int], int] | None = same_length,
    findings: Callable[[Mapping[str, Any] | None], Any] = lambda value: None,
    keeps_format: bool = True,
    waits: bool = False,
    faults: Sequence[Mapping[str, Any]] = (),
    refuse: Callable[[Audio], Any] | None = None,
    report: Report | None = None,
) -> None:
    """Run the battery over every format, rate and channel count.

    Args:
      make_node: builds a node; keyword arguments are parameters.
      feed: makes a fresh feed for one stream: block → what `process` takes, None → what comes last, if any.
        Needed for a `Join`; a plain node takes the block itself.
      formats: sample formats to try.
      rates: sample rates to try, in Hz.
      channels: channel counts to try.
      tolerance: how far samples may differ between cuts, as a share of full scale (integers: at least 1).
      length: exact output frames for an unbroken stretch of so many frames at such a rate; None if the node
        drops audio.
      findings: picks what must not depend on the cutting from the joined data items; nothing by default.
      keeps_format: the output has the input's sample format.
      waits: the feed itself is late, so the output may lag by more than the node's delay.
      faults: parameters that `make_node` must refuse with ValueError.
      refuse: makes of a block in the middle of a stream something that the node has to refuse.
      report: runs each check itself, given its name; without one, the first that fails ends the battery.

    Raises:
      AssertionError: the node breaks a rule of the contract.
    """
    run_check = report or (lambda name, check: check())
    for fault in faults:
        run_check("faulty parameters", lambda fault=fault: _expect(ValueError, lambda: make_node(**fault)))  # type: ignore[misc]
    assert not isinstance(make_node(), Join) or feed is not None, "a Join needs a feed"
    for rate, count, sample_format in itertools.product(rates, channels, formats):
        case = _Case(make_node, feed, rate, count, sample_format, tolerance, findings, length, keeps_format, waits)
        for name, check in case.checks(refuse).items():
            run_check(f"{name}: {sample_format}, {rate} Hz, {count} channels", check)
