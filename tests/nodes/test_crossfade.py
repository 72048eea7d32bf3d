"""Crossfade against closed formulas for its gains, by position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from nodes.conformance import check_node
from nodes.contract import Audio
from nodes.crossfade import Crossfade

Row = Mapping[str, Sequence[Any]]


def fader(**params: Any) -> Crossfade:
    node = Crossfade(**params)
    node.connect(("a", "b"))
    return node


def gains(**params: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return both gains for 100 frames of 1 ms each, from 50 ms on."""
    ones, zeros = Audio(np.ones((100, 1), np.float32), 1_000, 50), Audio(np.zeros((100, 1), np.float32), 1_000, 50)
    (first,) = fader(**params).process({"a": [ones], "b": [zeros]})
    (second,) = fader(**params).process({"a": [zeros], "b": [ones]})
    assert first.start == second.start == 50
    return first.frames[:, 0], second.frames[:, 0]


def alike() -> Callable[[Audio | None], Row]:
    return lambda block: {"a": [] if block is None else [block], "b": [] if block is None else [block]}


def test_conforms() -> None:
    check_node(
        lambda **params: fader(**{"at_ms": 100, "duration_ms": 120, "curve": "linear", **params}),
        feed=alike,
        channels=(2,),
        tolerance=1e-6,
        faults=[{"at_ms": -1}, {"duration_ms": -1}, {"curve": "steep"}],
        refuse=lambda block: {"a": [block], "b": [Audio(block.frames, block.sample_rate + 1, 0)]},
    )


def test_gains_are_the_closed_formulas() -> None:
    x = np.clip((np.arange(50, 150) - 60) / 80, 0, 1)
    first, second = gains(at_ms=60, duration_ms=80, curve="linear")
    assert np.allclose(first, 1 - x, atol=1e-6)
    assert np.allclose(second, x, atol=1e-6)
    first, second = gains(at_ms=60, duration_ms=80)
    assert np.allclose(first, np.cos(x * np.pi / 2), atol=1e-6)
    assert np.allclose(first**2 + second**2, 1, atol=1e-6), "the power must be constant"
    assert (second[0], first[-1]) == (0, 0), "only one input must be heard before and after"


def test_without_duration_it_is_a_cut() -> None:
    first, second = gains(at_ms=100, duration_ms=0)
    assert first.tolist() == [1] * 50 + [0] * 50
    assert second.tolist() == [0] * 50 + [1] * 50


def test_it_is_between_two() -> None:
    with pytest.raises(ValueError, match="there are 3"):
        Crossfade().connect(("a", "b", "c"))
