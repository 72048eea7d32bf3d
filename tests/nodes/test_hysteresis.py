"""Alarm ignores values that waver and changes that do not last, however the values are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nodes.dsp.hysteresis import Alarm
from nodes.dsp.segments import merge_segments

HOP_MS = 10.0
Values = list[float]


def alarm() -> Alarm:
    """Return an alarm with high from 10, low below 6, a hold of three hops and a release of two."""
    return Alarm(threshold=10, margin=4, hold_ms=30, release_ms=20)


def segments(*parts: Values, start_ms: float = 100.0) -> list[Any]:
    """Return all segments of an alarm on values that are pushed part by part, up to its end."""
    raised, taken = alarm(), []
    for part in parts:
        raised.push(np.array(part, float), start_ms, HOP_MS)
        start_ms += HOP_MS * len(part)
        taken.append(raised.take())
    raised.end()
    return merge_segments([*taken, raised.take()])


def test_goes_on_after_the_hold_and_off_after_the_release() -> None:
    raised = alarm()
    states = []
    for hop, value in enumerate([0, 10, 10, 10, 10, 0, 0, 0]):
        raised.push(np.array([value], float), hop * HOP_MS, HOP_MS)
        states.append(raised.duration_ms)
    off = 0.0
    assert states == [off, off, off, 30, 40, 40, off, off]
    assert raised.take() == [[10, 50]], "a segment must reach from the first high value to the last"


def test_what_does_not_last_raises_nothing() -> None:
    assert segments([10, 10, 0] * 5) == []


def test_a_short_break_ends_nothing() -> None:
    assert segments([10, 10, 10, 0, 10, 10, 0, 0]) == [[100, 160]]


def test_between_the_thresholds_and_unknown_is_as_before() -> None:
    assert segments([7, 10, 6, float("nan"), 9.9, 5.9, 9, 9]) == [[110, 150]]
    assert segments([float("nan"), 9, 9, 9, 9]) == [], "unknown values at the beginning must count as low"


def test_an_end_closes_and_what_follows_begins_anew() -> None:
    raised = alarm()
    raised.push(np.full(4, 10.0), 0, HOP_MS)
    assert raised.take() == [[0, None]]
    raised.end()
    assert raised.duration_ms == 0
    raised.push(np.array([7.0, 10, 10]), 500, HOP_MS)
    assert raised.take() == [[0, 40]]
    raised.push(np.array([7.0]), 530, HOP_MS)
    assert raised.take() == [[510, None]]


@given(st.lists(st.lists(st.sampled_from([0.0, 5.9, 6, 8, 10, 12]), min_size=1, max_size=9), min_size=1, max_size=9))
def test_the_cutting_changes_nothing(parts: list[Values]) -> None:
    whole = [value for part in parts for value in part]
    assert segments(*parts) == segments(whole) == segments(*([value] for value in whole))
