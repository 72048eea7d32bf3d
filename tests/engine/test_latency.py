"""Test the latency histogram: percentiles within 1 %, maximum and mean exact, memory bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.latency import LatencyHistogram


def of(*latencies_ms: float) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for ms in latencies_ms:
        histogram.record(ms)
    return histogram


def test_nothing_counted_is_nothing_told() -> None:
    assert of().percentiles(0.5, 0.95, 0.99) == [0.0, 0.0, 0.0]
    assert of().average_ms == of().max_ms == 0.0


def test_one_latency_is_every_percentile() -> None:
    assert of(3.0).percentiles(0.5, 0.95, 0.99) == [3.0, 3.0, 3.0]


def test_percentiles_of_a_hundred() -> None:
    found = of(*range(1, 101)).percentiles(0.5, 0.95, 0.99, 1.0)
    assert found == pytest.approx([50, 95, 99, 100], rel=0.01)


def test_one_slow_chunk_in_a_hundred_is_no_p99_but_the_maximum() -> None:
    histogram = of(*[1.0] * 99, 500.0)
    assert histogram.percentiles(0.99) == pytest.approx([1.0], rel=0.01)
    assert histogram.max_ms == 500.0


@given(st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_within_one_per_cent(latencies: list[float], share: float) -> None:
    ranked = sorted(latencies)
    rank = next(i for i in range(1, len(ranked) + 1) if i >= share * len(ranked))
    (found,) = of(*latencies).percentiles(share)
    assert found == pytest.approx(ranked[rank - 1], rel=0.0101)
    assert found <= ranked[-1]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_maximum_and_mean_are_exact(latencies: list[float]) -> None:
    histogram = of(*latencies)
    assert histogram.max_ms == max(latencies)
    assert histogram.average_ms == pytest.approx(sum(latencies) / len(latencies))


def test_memory_is_bounded() -> None:
    histogram = of(*(1.001**i * 1e-4 for i in range(100_000 // 4)))
    assert len(histogram._buckets) <= 2_401
