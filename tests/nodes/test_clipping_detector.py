"""ClippingDetector against closed formulas, and its definition of clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.clipping_detector import ClippingDetector
from nodes.contract import Audio
from tests.kits import check_node, cut, run

RATE = 16_000


def sine(amplitude: float, seconds: float = 1.0) -> Any:
    """Return a sine of 100 Hz, cut off at full scale."""
    t = np.arange(round(seconds * RATE)) / RATE
    return np.clip(amplitude * np.sin(2 * np.pi * 100 * t), -1, 1).astype(np.float32)[:, None]


def found(frames: Any, sizes: list[int] | None = None, **params: Any) -> Any:
    node = ClippingDetector(**params)
    return node.join(run(node, cut(frames, sizes or [], RATE)).data).value


def test_conforms() -> None:
    check_node(
        lambda **params: ClippingDetector(**{"hold_ms": 0.0, **params}),
        rates=(16_000, 11_025),
        length=None,
        findings=lambda value: (
            value
            and [
                value[name] if isinstance(value[name], list) else round(value[name], 6)
                for name in ("segments", "is_clipping", "saturation_ratio", "crest_factor_db", "peak_db")
            ]
        ),
        faults=[{"ceiling_db": 0}, {"min_saturation": 0}, {"hold_ms": -1}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize("amplitude", [1.25, 2.0, 10.0])
def test_a_sine_that_is_cut_off_is_saturated_as_the_formula_says(amplitude: float) -> None:
    value = found(sine(amplitude))
    angle = np.arcsin(1 / amplitude)
    assert value["saturation_ratio"] == pytest.approx(1 - 2 * angle / np.pi, abs=0.02)
    square = amplitude**2 * (angle - np.sin(angle) * np.cos(angle)) / np.pi + 1 - 2 * angle / np.pi
    assert value["crest_factor_db"] == pytest.approx(-10 * np.log10(square), abs=0.02)
    assert value["segments"] == [[0, 1_000]]


def test_crest_factors_that_are_known() -> None:
    assert found(sine(0.5))["crest_factor_db"] == pytest.approx(3.0103, abs=1e-3)
    assert found(np.full((RATE, 2), -(2**15), np.int16))["crest_factor_db"] == 0
    assert found(np.zeros((RATE, 1), np.int16))["crest_factor_db"] == 0


def test_full_scale_that_is_not_cut_off_is_no_clipping() -> None:
    value = found(sine(0.99))
    assert (value["is_clipping"], value["saturation_ratio"]) == (False, 0)


def test_one_odd_chunk_is_no_clipping_and_a_short_break_does_not_end_it() -> None:
    parts = [sine(0.5), sine(4, 0.04), sine(0.5), sine(4, 0.2), sine(0.5, 0.3), sine(4, 0.2), sine(0.5)]
    value = found(np.concatenate(parts), [320] * 500)
    assert value["segments"] == [[2_040, 2_740]]


def test_one_channel_is_enough() -> None:
    assert found(np.hstack([sine(0.1), sine(2)]))["is_clipping"]
