"""OnsetDetector finds sounds that begin at known times within 15 ms, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nodes.conformance import check_node, cut, run
from nodes.contract import Audio
from nodes.onset_detector import OnsetDetector

RATE = 16_000
TIMES = (0.303, 0.805, 1.311, 1.489)
TOLERANCE_MS = 15
"""Greatest error of an onset; evaluations in the field allow 25 ms (Böck et al., 2012)."""


def sounds(kind: str, rate: int = RATE) -> Any:
    """Return two seconds, shape (n, 1), in which a sound begins at each of TIMES, over faint noise."""
    rng = np.random.default_rng(1)
    t = np.arange(rate // 8) / rate
    frames = rng.normal(0, 1e-4, 2 * rate)
    for number, time in enumerate(TIMES):
        at = round(time * rate)
        match kind:
            case "plucked":
                frames[at : at + len(t)] += 0.3 * np.sin(2 * np.pi * 330 * (number + 1) * t) * np.exp(-20 * t)
            case "noise":
                frames[at : at + len(t)] += rng.normal(0, 0.1, len(t))
            case "clicks":
                frames[at] += 0.9
    return frames[:, None].astype(np.float32)


def onsets(frames: Any, rate: int = RATE, sizes: list[int] | None = None, **params: Any) -> list[float]:
    outcome = run(OnsetDetector(**params), cut(frames, sizes or [], rate))
    return [at_ms for item in outcome.data for at_ms in item.value["onsets_ms"]]


def test_conforms() -> None:
    check_node(
        OnsetDetector,
        formats=("f32",),
        rates=(16_000, 11_025),
        length=None,
        waits=True,
        findings=lambda value: value,
        faults=[{"threshold": 0}, {"min_interval_ms": -1}],
        refuse=lambda block: Audio(block.frames, block.sample_rate, 0),
    )


@pytest.mark.parametrize("kind", ["plucked", "noise", "clicks"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_finds_what_begins_and_nothing_else(kind: str, rate: int) -> None:
    found = onsets(sounds(kind, rate), rate, [160] * 400)
    assert found == pytest.approx([time * 1000 for time in TIMES], abs=TOLERANCE_MS)


def test_a_steady_sound_has_no_onset_even_at_the_beginning() -> None:
    t = np.arange(2 * RATE) / RATE
    steady = (0.5 * np.sin(2 * np.pi * 440 * t) * (1 + 0.3 * np.sin(2 * np.pi * 3 * t)))[:, None].astype(np.float32)
    assert onsets(steady) == []
    assert onsets(np.zeros((RATE, 1), np.int16)) == []


def test_onsets_keep_their_distance() -> None:
    first, *_ = found = onsets(sounds("clicks"), min_interval_ms=600)
    assert found == pytest.approx([303, 1_311], abs=TOLERANCE_MS)
    assert first == pytest.approx(303, abs=TOLERANCE_MS)


def test_each_is_told_within_the_delay() -> None:
    node, frames = OnsetDetector(), sounds("plucked")
    reported = [
        (at_ms, (start + 160) / RATE * 1000)
        for start in range(0, len(frames), 160)
        for item in node.process(Audio(frames[start : start + 160], RATE, start))
        for at_ms in item.value["onsets_ms"]
    ]
    assert len(reported) == len(TIMES)
    assert all(heard_ms - at_ms <= node.delay * 1000 + 10 for at_ms, heard_ms in reported), "a block more, at most"


def test_what_a_gap_cuts_off_is_settled_and_times_stay_those_of_the_session() -> None:
    frames = sounds("plucked")[: round(0.32 * RATE)]
    node = OnsetDetector()
    data = [*node.process(Audio(frames, RATE)), *node.process(Audio(sounds("plucked"), RATE, 10 * RATE))]
    data += node.finish()
    expected = [303] + [10_000 + time * 1000 for time in TIMES]
    assert node.join(data).value["onsets_ms"] == pytest.approx(expected, abs=TOLERANCE_MS)
    assert all(item.at is not None and item.until is not None for item in data)
