"""Verdicts of the soak on its figures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import pytest

from benchmarks.soak.server import Look
from benchmarks.soak.soak import Phase, rise_per_10_minutes, verdicts

REST = Look(
    tasks=6,
    fds=12,
    threads=1,
    connections=0,
    calls=0,
    sessions=0,
    large_message_bytes=0,
    rss_bytes=60_000_000,
    objects={"Session": 1, "Call": 1},
)


def phases(**changes: Any) -> list[Phase]:
    return [Phase("start", REST), Phase("middle", REST), Phase("end", attrs.evolve(REST, **changes))]


def samples(minutes: float, memory: Callable[[float], float]) -> list[tuple[float, int]]:
    return [(float(second), int(memory(second))) for second in range(int(minutes * 60))]


def test_a_server_at_rest_is_as_it_was() -> None:
    assert verdicts(phases(rss_bytes=70_000_000, threads=3), 0.0099) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tasks": 7}, "tasks at the end: 7, at the start: 6"),
        ({"fds": 11}, "fds at the end: 11, at the start: 12"),
        ({"sessions": 1}, "sessions at the end: 1, at the start: 0"),
        ({"objects": {"Session": 1, "Call": 12}}, "Call objects at the end: 12, at the start: 1"),
    ],
)
def test_what_is_left_over_is_told(changes: dict[str, Any], told: str) -> None:
    assert verdicts(phases(**changes), None) == [told]


def test_memory_and_good_clients_count_too() -> None:
    some = phases()
    some[1].failures = ["UNAVAILABLE"]
    assert verdicts(some, 0.01) == ["memory rises by 1.00% in 10 minutes", "a good client, middle: UNAVAILABLE"]


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, -0.01])
def test_the_rise_of_the_last_third(share: float) -> None:
    """Independent of the time before, and of large messages that come and go."""
    random = Random(1)

    def memory(second: float) -> float:
        steady = 60e6 * (1 + share * (second - 800) / 600) if second >= 800 else 60e6 - 20e6 * (800 - second) / 800
        return steady + (40e6 if random.random() < 0.1 else 0)

    assert rise_per_10_minutes(samples(20, memory)) == pytest.approx(share, abs=1e-3)


def test_too_few_samples_tell_nothing() -> None:
    assert rise_per_10_minutes([]) == 0
    assert rise_per_10_minutes(samples(0.05, lambda second: 60e6)) == 0
