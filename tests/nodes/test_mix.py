"""Mix and its alignment, against sums over the whole streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.bases.alignment import Alignment, SkewTooGreat
from nodes.contract import Audio, InvalidInput, Item
from nodes.mix import Mix
from tests.kits import check_node, cut, late_by_one_row, signal

Row = Mapping[str, Sequence[Any]]


def mixer(*names: str, **params: Any) -> Mix:
    node = Mix(**params)
    node.connect(names)
    return node


def mixed(node: Mix, rows: Sequence[Row]) -> dict[int, np.ndarray[Any, Any]]:
    """Return the frame at each position of the output."""
    items: list[Item] = [item for row in rows for item in node.process(row)]
    items.extend(node.finish())
    frames: dict[int, np.ndarray[Any, Any]] = {}
    for item in items:
        assert isinstance(item, Audio)
        for offset, frame in enumerate(item.frames):
            assert item.start + offset not in frames
            frames[item.start + offset] = frame
    assert list(frames) == sorted(frames)
    return frames


def test_conforms() -> None:
    check_node(
        lambda **params: mixer("a", "b", **{"weights": {"b": -0.5}, **params}),
        feed=late_by_one_row,
        length=lambda n_frames, rate: n_frames,
        waits=True,
        faults=[{"weights": {"c": 1.0}}, {"weights": {"a": float("nan")}}, {"max_skew_ms": 0}],
        refuse=lambda block: {"a": [block], "b": [Audio(block.frames, block.sample_rate + 1, 0)]},
    )


@pytest.mark.parametrize("sample_format", ["f32", "i16", "i32"])
def test_is_the_weighted_sum(sample_format: str) -> None:
    first, second = signal(500, 2, sample_format, seed=1), signal(500, 2, sample_format, seed=2)
    node = mixer("a", "b", weights={"a": 0.25, "b": -0.5})
    (out,) = node.process({"a": [Audio(first, 8_000, 40)], "b": [Audio(second, 8_000, 40)]})
    expected = 0.25 * first.astype(np.float64) - 0.5 * second
    assert out.frames.dtype == first.dtype
    assert out.start == 40
    assert np.allclose(out.frames, expected, atol=1e-6 if sample_format == "f32" else 256, rtol=0)


def test_clips_integers_and_gives_float_for_unlike_formats() -> None:
    loud = np.array([[30_000]], np.int16)
    (out,) = mixer("a", "b").process({"a": [Audio(loud, 8_000)], "b": [Audio(loud, 8_000)]})
    assert out.frames.tolist() == [[32_767]]
    (out,) = mixer("a", "b").process({"a": [Audio(loud, 8_000)], "b": [Audio(np.array([[0.5]], np.float32), 8_000)]})
    assert out.sample_format == "f32"
    assert out.frames[0, 0] == pytest.approx(30_000 / 32_768 + 0.5)


def test_overflow_clips_to_the_largest_float() -> None:
    largest = np.array([[np.finfo(np.float32).max]], np.float32)
    (out,) = mixer("a", "b").process({"a": [Audio(largest, 8_000)], "b": [Audio(largest, 8_000)]})
    assert np.array_equal(out.frames, largest)


stretches = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=5)
cuts = st.lists(st.integers(1, 25), max_size=12)


@given(st.tuples(stretches, stretches, stretches), cuts, st.integers(0, 2**32))
def test_any_cuts_gaps_and_lateness_give_the_sum_by_position(given_stretches: Any, sizes: list[int], seed: int) -> None:
    random, names = Random(seed), ("a", "b", "c")
    expected: dict[int, float] = {}
    queues: dict[str, list[Audio]] = {}
    for name, plan in zip(names, given_stretches, strict=True):
        position, queues[name] = 0, []
        for gap, n_frames in plan:
            position += gap
            frames = np.array([[random.randint(-9, 9)] for _ in range(n_frames)], np.float32)
            for offset, value in enumerate(frames[:, 0]):
                expected[position + offset] = expected.get(position + offset, 0.0) + value
            queues[name].extend(cut(frames, [random.choice([0, *sizes]) for _ in sizes], 1_000, position))
            position += n_frames
    rows: list[Row] = []
    while any(queues.values()):
        rows.append(
            {
                name: [queue.pop(0) for _ in range(min(len(queue), random.randint(0, 2)))]
                for name, queue in queues.items()
            }
        )
    node = mixer(*names, max_skew_ms=3_600_000)
    assert {position: frame[0] for position, frame in mixed(node, rows).items()} == expected
    assert node.memory_bytes == 0


def test_the_remainder_is_held_and_counted() -> None:
    node = mixer("a", "b")
    block = Audio(signal(100), 8_000)
    assert not list(node.process({"a": [block], "b": []}))
    assert node.memory_bytes == 400
    (out,) = node.process({"a": [], "b": [Audio(signal(60), 8_000)]})
    assert len(out.frames) == 60
    assert node.memory_bytes == 160
    (rest,) = node.finish()
    assert (rest.start, len(rest.frames)) == (60, 40)


@pytest.mark.parametrize("other", [Audio(signal(10), 8_001), Audio(signal(10, 2), 8_000)])
def test_unlike_rates_and_channels_are_refused(other: Audio) -> None:
    with pytest.raises(InvalidInput):
        list(mixer("a", "b").process({"a": [Audio(signal(10), 8_000)], "b": [other]}))


def test_going_back_is_refused() -> None:
    node = mixer("a", "b")
    list(node.process({"a": [Audio(signal(10), 8_000, 5)], "b": []}))
    with pytest.raises(InvalidInput, match="'a' starts at frame 14"):
        list(node.process({"a": [Audio(signal(10), 8_000, 14)], "b": []}))


def test_too_much_skew_fails_and_names_who_is_behind() -> None:
    node = mixer("fast", "slow", max_skew_ms=100)
    assert not list(node.process({"fast": [Audio(signal(800), 8_000, 8_000)], "slow": []}))
    with pytest.raises(SkewTooGreat, match="'slow' is 101 ms behind") as caught:
        list(node.process({"fast": [Audio(signal(8), 8_000, 8_800)], "slow": []}))
    assert caught.value.upstream == "slow"


def test_skew_counts_only_what_is_left_when_all_have_spoken() -> None:
    node = mixer("a", "b", max_skew_ms=10)
    assert list(node.process({"a": [Audio(signal(8_000), 8_000)], "b": [Audio(signal(7_930), 8_000)]}))


def test_a_mix_without_upstream_nodes_passes_its_own_chunks() -> None:
    node = Mix()
    (out,) = node.process({"": [Audio(signal(10), 8_000)]})
    assert np.array_equal(out.frames, signal(10))


def test_a_weight_for_nobody_names_who_there_is() -> None:
    with pytest.raises(ValueError, match="'c' not upstream; upstream: 'a', 'b'"):
        mixer("a", "b", weights={"c": 1})


def test_alignment_gives_whole_blocks_without_copying_them() -> None:
    alignment = Alignment(("a",), 100)
    block = Audio(signal(10), 8_000)
    alignment.add({"a": [block]})
    (stretch,) = alignment.take()
    assert np.shares_memory(stretch.frames["a"], block.frames)
