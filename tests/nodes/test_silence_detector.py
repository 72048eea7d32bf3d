"""SilenceDetector finds the silences and holes in a signal, at their times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.contract import Audio
from nodes.silence_detector import SilenceDetector
from tests.kits import check_node, cut, run

RATE = 16_000


def sound(*parts: tuple[float, float]) -> Any:
    """Return square waves, so that each hop has exactly the given level: (level in dB or -inf, milliseconds)."""
    levels = np.concatenate([np.full(round(ms * RATE / 1000), 10 ** (level / 20)) for level, ms in parts])
    return (levels * np.where(np.arange(len(levels)) % 2, 1, -1)).astype(np.float32)[:, None]


def found(frames: Any, sizes: list[int] | None = None, **params: Any) -> Any:
    node = SilenceDetector(**params)
    return node.join(run(node, cut(frames, sizes or [], RATE)).data).value


def test_conforms() -> None:
    check_node(
        lambda **params: SilenceDetector(**{"hold_ms": 20.0, "sustained_ms": 30.0, **params}),
        rates=(16_000, 11_025),
        length=None,
        findings=lambda value: value and {**value, "rms_db": round(value["rms_db"], 6), "duration_ms": 0},
        faults=[{"dropout_db": -40}, {"threshold_db": 1}, {"hold_ms": -1}, {"min_dropouts": 0}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize(("level", "wanted"), [(0.0, 0.0), (-20.0, -20.0), (-200.0, -120.0)])
def test_the_level_is_the_root_mean_square(level: float, wanted: float) -> None:
    assert found(sound((level, 500)), [170] * 99)["rms_db"] == pytest.approx(wanted, abs=1e-4)


def test_silence_is_told_after_the_hold_and_with_its_times() -> None:
    value = found(sound((-20, 300), (-60, 700), (-20, 500)), [320] * 99)
    assert value["segments"] == [[300, 1_000]]
    assert (value["silence_duration_ms"], value["is_silent"], value["is_sustained_silence"]) == (700, True, False)
    assert found(sound((-20, 300), (-60, 3_000), (-20, 300)))["is_sustained_silence"]


def test_one_odd_chunk_neither_begins_nor_ends_silence() -> None:
    assert not found(sound((-20, 300), (-60, 190), (-20, 300)))["is_silent"]
    assert found(sound((-60, 500), (-10, 40), (-60, 500)))["segments"] == [[0, 1_040]]
    assert found(sound((-60, 500), (-48.5, 500)))["segments"] == [[0, 1_000]], (
        "between the thresholds nothing must change"
    )


def test_the_duration_grows_while_it_is_silent() -> None:
    data = run(SilenceDetector(), cut(sound((-60, 300)), [1_600] * 3, RATE)).data
    assert [item.value["silence_duration_ms"] for item in data] == [0, 200, 300, 300]


def test_holes_are_dropouts_and_pauses_are_not() -> None:
    hole, tone = (float("-inf"), 30.0), (-20.0, 400.0)
    value = found(sound((float("-inf"), 50), tone, hole, tone, (-60, 100), tone, (float("-inf"), 300), tone, hole))
    assert (value["dropouts"], value["dropout_count"]) == ([[450, 480]], 1)
    assert not value["has_intermittent_dropouts"]


@pytest.mark.parametrize("sizes", [[], [320] * 999])
def test_many_dropouts_are_intermittent_until_a_window_without(sizes: list[int]) -> None:
    hole, tone, rest = (float("-inf"), 20.0), (-20.0, 300.0), (-20.0, 2_000.0)
    assert found(sound(tone, *[hole, tone] * 3), sizes, dropout_window_ms=1_000.0)["has_intermittent_dropouts"]
    apart = found(sound(tone, hole, tone, hole, rest, hole, tone), sizes, dropout_window_ms=1_000.0)
    assert (apart["dropout_count"], apart["has_intermittent_dropouts"]) == (3, False)
    node = SilenceDetector(dropout_window_ms=1_000.0)
    data = run(node, cut(sound(tone, *[hole, tone] * 3, rest), [320] * 999, RATE)).data
    assert not data[-1].value["has_intermittent_dropouts"]


def test_a_gap_is_neither_silence_nor_a_dropout() -> None:
    quiet = sound((-20, 300), (float("-inf"), 300))
    node = SilenceDetector()
    data = [*node.process(Audio(quiet, RATE)), *node.process(Audio(sound((-20, 300)), RATE, 5 * RATE)), *node.finish()]
    value = node.join(data).value
    assert (value["segments"], value["dropout_count"]) == ([[300, 600]], 0)
