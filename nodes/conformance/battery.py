"""The battery of checks that `check_node` runs: asserts on a node's output for one stream, cut in many ways."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

from nodes.conformance.footprint import footprint_bytes
from nodes.conformance.harness import (
    FRAMES,
    Feed,
    Outcome,
    block_at,
    blocks_of,
    checked,
    cut,
    outcome_of,
    run,
    signal,
    taken_by,
)
from nodes.contract import AnyNode, Audio, InvalidInput, Item, Join, Samples

__all__ = ["HOUR_S", "Outcome", "Report", "blocks_of", "check_node", "cut", "run", "same_length", "signal"]

HOUR_S = 3_600.0


Report = Callable[[str, Callable[[], None]], None]
"""Called with the name of a check and the check itself, which it must run; the check raises if the node fails it."""


def _cuttings() -> Iterator[list[int]]:
    yield []
    yield [160, 0] * 40
    rng = np.random.default_rng(11)
    yield [0, 1, 1, 1, 0, *rng.choice([1, 2, 7, 0, 333, 480, 901], 60).tolist()]
    yield [1] * 64 + [1_500]


def _same(first: Outcome, second: Outcome, node: AnyNode, tolerance: float, findings: Any) -> None:
    """Assert that two outcomes have the same samples at the same positions, and the same findings."""
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
    assert findings(_joined(first, node)) == findings(_joined(second, node)), "findings differ"


def _joined(outcome: Outcome, node: AnyNode) -> Mapping[str, Any] | None:
    if not outcome.data:
        return None
    value = dict(node.join(outcome.data).value)
    json.dumps(value, allow_nan=False)
    return value


_BLOCK_S, _LOOP_S = 0.1, 3.0
_SLACK_BYTES, _SLACK_FRAMES = 512, 8
"""Greatest allowed growth of the memory that a node holds: numbers gain digits, lists grow in steps, hops drift."""


@attrs.define
class _Held:
    """Greatest memory of a node so far, in bytes: as the node reports it, and as found by following references."""

    reported: int = 0
    found: int = 0

    def note(self, node: AnyNode) -> None:
        self.reported = max(self.reported, node.memory_bytes)
        self.found = max(self.found, footprint_bytes(node))


@attrs.frozen
class _Case:
    """One kind of node under one format of audio; each check is a method."""

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

    @property
    def form(self) -> str:
        return f"{self.sample_format}, {self.rate} Hz, {self.channels} channels"

    def feed(self) -> Feed | None:
        return self.make_feed() if self.make_feed else None

    def frames(self, n_frames: int = FRAMES, seed: int = 7) -> Samples:
        return signal(n_frames, self.channels, self.sample_format, self.rate, seed)

    def run(self, node: AnyNode, stretches: Sequence[tuple[int, Samples]], sizes: list[int]) -> Outcome:
        return run(node, blocks_of(stretches, sizes, self.rate), self.feed())

    def checks(self, refuse: Callable[[Audio], Any] | None) -> dict[str, Callable[[], None]]:
        """Return every check that applies, by name."""
        checks: dict[str, Callable[[], None]] = {
            "cut anyhow": lambda: self.check_cuts(start=0, gap=None),
            "cut anyhow with a gap": lambda: self.check_cuts(start=480, gap=1_234),
            "nothing and one frame": self.check_small,
            "silence and full scale": self.check_extremes,
            "fresh after finish": self.check_fresh,
            "closed at any time": self.check_close,
        }
        if self.sample_format == "f32":
            checks["NaN leaves no trace"] = self.check_nan
        if refuse is not None:
            checks["refusal leaves no trace"] = lambda: self.check_refusal(refuse)
        return checks

    def run_checks(self, refuse: Callable[[Audio], Any] | None, run_check: Report) -> None:
        """Run every check that applies, under its name and the format of the audio."""
        for name, check in self.checks(refuse).items():
            run_check(f"{name}: {self.form}", check)

    def check_cuts(self, start: int, gap: int | None) -> None:
        """Check that samples, findings, positions and length are the same however the stream is cut."""
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
                f"the output lags by {outcome.lag} s, but the node's delay is {node.delay} s"
            )
            node.close()

    def _timed(self, outcome: Outcome) -> bool:
        """Return True if the output must keep up with the input, which audio with dropped parts does not."""
        if self.waits or (self.length is None and outcome.n_frames):
            return False
        return bool(outcome.n_frames or outcome.data)

    def check_places(self, outcome: Outcome, stretches: Sequence[tuple[int, Samples]]) -> None:
        if self.length is None or not outcome.rate:
            return
        wanted = [
            (start * outcome.rate // self.rate, self.length(len(frames), self.rate)) for start, frames in stretches
        ]
        assert [(start, len(frames)) for start, frames in outcome.runs] == wanted, "positions or length"

    def check_small(self) -> None:
        """Check that nothing, an empty block and a single frame are valid streams."""
        node = self.make_node()
        assert not list(node.finish()), "finish of a fresh node yielded items"
        empty = self.run(node, [], [])
        assert not empty.n_frames
        nothing = block_at(self.frames(0), self.rate, 0)
        assert not run(node, [nothing], self.feed()).n_frames
        one = self.run(node, [(5, self.frames(1))], [])
        if one.rate and self.length is not None:
            assert one.n_frames == self.length(1, self.rate)
        node.close()

    def check_fresh(self) -> None:
        """Check that `finish` leaves the node as new: nothing more to finish, and equal output for an equal stream."""
        node, stretches, sizes = self.make_node(), [(480, self.frames())], [160] * 30
        first = self.run(node, stretches, sizes)
        assert not list(node.finish()), "finish yielded items the second time"
        assert node.memory_bytes == self.make_node().memory_bytes, "memory held after finish"
        _same(first, self.run(node, stretches, sizes), node, 0.0, self.findings)
        node.close()

    def check_close(self) -> None:
        """Check that `close` works on a new node and in mid-stream, and that figures can be read at any time."""
        self.make_node().close()
        node, feed = self.make_node(), taken_by(self.feed())
        list(node.process(feed(block_at(self.frames(700), self.rate, 0))))
        assert math.isfinite(node.delay)
        assert node.delay >= 0
        assert isinstance(node.memory_bytes, int)
        assert node.memory_bytes >= 0
        json.dumps(dict(node.custom_metrics()), allow_nan=False)
        node.close()

    def check_nan(self) -> None:
        """Check that a block with NaN is rejected without a trace, or forgotten at `finish`, but is never a failure."""
        frames = self.frames(700)
        poisoned = frames.copy()
        poisoned[350] = np.nan
        node, feed = self.make_node(), taken_by(self.feed())
        with contextlib.suppress(InvalidInput):
            list(node.process(feed(block_at(poisoned, self.rate, 0))))
        list(node.finish())
        _same(
            self.run(self.make_node(), [(0, frames)], []), self.run(node, [(0, frames)], []), node, 0.0, self.findings
        )
        node.close()

    def check_extremes(self) -> None:
        """Check that silence throughout and full scale throughout yield finite output of the usual length."""
        full = self.frames()
        largest = 1.0 if full.dtype == np.float32 else np.iinfo(full.dtype).max
        lowest = -1.0 if full.dtype == np.float32 else np.iinfo(full.dtype).min
        alternating = np.where(np.arange(FRAMES)[:, None] // 7 % 2, lowest, largest)
        for frames in (np.zeros_like(full), np.broadcast_to(alternating, full.shape).astype(full.dtype)):
            node = self.make_node()
            stretches = [(0, frames)]
            self.check_places(self.run(node, stretches, [160] * 30), stretches)
            node.close()

    def check_memory(self, settles_s: float, total_s: float) -> None:
        """Check that the node holds no more memory at the end of a long stream than once it had settled.

        Both times the maximum over `settles_s` seconds counts, measured after each block.
        """
        node, feed = self.make_node(), taken_by(self.feed())
        settled, last = _Held(), _Held()
        for block in self.unbroken(total_s, loop_s=min(_LOOP_S, settles_s)):
            list(node.process(feed(block)))
            if 1 <= block.stop / self.rate / settles_s < 2:
                settled.note(node)
            elif block.stop / self.rate > total_s - settles_s:
                last.note(node)
        node.close()
        slack = _SLACK_BYTES + self.frames(_SLACK_FRAMES).nbytes
        assert last.reported <= settled.reported + slack, (
            f"memory_bytes grew from {settled.reported} to {last.reported}"
        )
        assert last.found <= settled.found + slack, (
            f"the memory reachable from the node grew from {settled.found} to {last.found} bytes"
        )

    def unbroken(self, total_s: float, loop_s: float) -> Iterator[Audio]:
        """Yield a long stream without a gap: `loop_s` seconds in blocks of many lengths, again and again."""
        shares = np.random.default_rng(5).uniform(0, 2, math.ceil(2 * loop_s / _BLOCK_S))
        sizes = [max(1, round(share * _BLOCK_S * self.rate)) for share in shares]
        loop = list(cut(self.frames(round(loop_s * self.rate)), sizes, self.rate))
        for index in range(math.ceil(total_s / loop_s)):
            for block in loop:
                yield block.placed(index * loop[-1].stop + block.start)

    def check_refusal(self, refuse: Callable[[Audio], Any]) -> None:
        """Check that an item that is rejected in the middle of the stream leaves no trace."""
        blocks = blocks_of([(0, self.frames())], [500] * 8, self.rate)
        plain = self.make_node()
        expected = run(plain, blocks, self.feed())
        node = self.make_node()
        feed = taken_by(self.feed())
        items: list[Item] = []
        for index, block in enumerate(blocks):
            if index == 4:
                with _expected(InvalidInput):
                    list(node.process(refuse(block)))
            items.extend(checked(node.process(feed(block))))
        if self.make_feed and (rest := feed(None)) is not None:
            items.extend(checked(node.process(rest)))
        items.extend(checked(node.finish()))
        _same(expected, outcome_of(items, 0.0), node, 0.0, self.findings)


@contextlib.contextmanager
def _expected(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def _check_fault(make_node: Callable[..., AnyNode], fault: Mapping[str, Any]) -> None:
    with _expected(ValueError):
        make_node(**fault)


def same_length(n_frames: int, rate: int) -> int:
    """Return the output length of a node that yields as many frames as it takes."""
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
    settles_s: float = 10.0,
    hour: bool = False,
    report: Report | None = None,
) -> None:
    """Run the battery over every format, rate and channel count.

    Args:
      make_node: Builds a node; keyword arguments are parameters.
      feed: Makes a fresh feed for one stream (see `Feed`). Needed for a `Join`; a plain node takes the block itself.
      formats: Sample formats to try.
      rates: Sample rates to try, in Hz.
      channels: Channel counts to try.
      tolerance: Greatest difference between samples of two cuttings, as a share of full scale (integers: at least 1).
      length: Function from the frames of an unbroken stretch and its sample rate to the exact number of output frames;
        None if the node drops audio.
      findings: Selects the values that must not depend on the cutting from the joined data items; none by default.
      keeps_format: True if the output has the input's sample format.
      waits: True if the output may lag by more than the node's delay, because the feed itself is late or the output
        consists of events only.
      faults: Parameters that `make_node` must refuse with ValueError.
      refuse: Turns a block in the middle of a stream into an item that the node must reject.
      settles_s: Seconds of audio after which the node holds as much memory as it ever will. This is checked over four
        times as long, for the first rate, channel count and format only.
      hour: Check the memory over an hour instead.
      report: Runs each check, and is given its name; without it, the first check that fails ends the battery.

    Raises:
      AssertionError: the node breaks a rule of the contract.
    """
    run_check = report or (lambda name, check: check())
    for fault in faults:
        run_check("faulty parameters", partial(_check_fault, make_node, fault))
    assert not isinstance(make_node(), Join) or feed is not None, "a Join needs a feed"
    cases = [
        _Case(make_node, feed, rate, count, sample_format, tolerance, findings, length, keeps_format, waits)
        for rate, count, sample_format in itertools.product(rates, channels, formats)
    ]
    for case in cases:
        case.run_checks(refuse, run_check)
    total_s = HOUR_S if hour else 4 * settles_s
    run_check(f"bounded memory: {cases[0].form}", lambda: cases[0].check_memory(settles_s, total_s))
