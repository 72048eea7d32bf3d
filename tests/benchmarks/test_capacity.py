"""The search for the largest number of sessions, on a simulated server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity import find_capacity, largest
from benchmarks.load.script import Outcome
from benchmarks.report.machine import Usage


def outcome(p99_ms: float, *, lost: int = 0, busy: float = 0.1, late_ms: float = 0.0, waited_s: float = 0.0) -> Outcome:
    return Outcome(
        latencies_ms=np.full(100, p99_ms),
        chunks=100 - lost,
        lost=lost,
        wall_s=1.0,
        server=Usage(0.5, waited_s, 50_000_000),
        idle_rss_bytes=40_000_000,
        client_cpu_shares=(0.1, busy),
        client_late_p99_ms=late_ms,
        beside_unread_bytes=0,
        kept=(),
        errors=(),
        failed=0,
    )


@given(true=st.integers(0, 500), start=st.integers(1, 50), most=st.integers(1, 600))
def test_the_largest_is_found_and_nothing_tried_twice(true: int, start: int, most: int) -> None:
    tried: list[int] = []

    def passes(sessions: int) -> bool:
        tried.append(sessions)
        return sessions <= true

    assert largest(passes, start, most, 0) == ((true, true + 1) if true < most else (most, None))
    assert len(tried) == len(set(tried))
    assert max(tried) <= most


@given(true=st.integers(20, 2000))
def test_a_coarse_answer_is_near(true: int) -> None:
    low, high = largest(lambda sessions: sessions <= true, 8, 4000, 0.05)
    assert high is not None
    assert low <= true < high <= low * 1.06 + 1


def test_one_disturbance_decides_nothing() -> None:
    disturbed = iter([True])

    def run(sessions: int) -> Outcome:
        return outcome(99 if sessions > 12 or (sessions == 10 and next(disturbed, False)) else 1)

    found = find_capacity(run, limit_ms=20, start=5, resolution=0)
    assert (found.sessions, found.limit) == (12, "server")
    assert [row["passed"] for row in found.rows if row["sessions"] == 10] == ["no", "yes", "yes"]


@pytest.mark.parametrize(
    ("failed", "limit"),
    [
        (outcome(99), "server"),
        (outcome(1, lost=1), "server"),
        (outcome(99, busy=0.95), "client"),
        (outcome(99, late_ms=6), "client"),
        (outcome(99, late_ms=6, waited_s=0.2), "machine"),
    ],
)
def test_who_is_the_limit_is_told(failed: Outcome, limit: str) -> None:
    found = find_capacity(lambda sessions: failed if sessions > 3 else outcome(1), limit_ms=20, start=2)
    assert (found.sessions, found.limit) == (3, limit)
