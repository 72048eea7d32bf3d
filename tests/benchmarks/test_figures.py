"""Figures computed from samples, and reports."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from benchmarks.load.figures import interval, latency_figures
from benchmarks.load.script import Load, Report, Script, outcome_of
from benchmarks.report.machine import Usage
from benchmarks.report.report import Report as Found
from benchmarks.report.report import Table


def test_percentiles_are_latencies_that_were_seen() -> None:
    values = [float(i) for i in range(1, 1002)]
    Random(1).shuffle(values)
    named = {"min_ms": 1, "p50_ms": 501, "p95_ms": 951, "p99_ms": 991, "p99.9_ms": 1000, "max_ms": 1001}
    assert latency_figures(values) == named
    assert latency_figures([*values[:-1], math.inf])["max_ms"] == math.inf
    assert all(math.isnan(value) for value in latency_figures([]).values())


def test_what_was_not_answered_took_for_ever_and_the_warm_up_does_not_count() -> None:
    due = np.array([[0.0, 1.0, 2.0], [0.5, 1.5, 2.5]])
    received = due + np.array([[9.0, 0.1, 0.2], [9.0, 0.3, math.nan]])
    report = Report(due=due, received=received, late_s=np.zeros(6), cpu_s=1.0, wall_s=4.0)
    load = Load(script=Script(path="", chunks=(b"",) * 3), sessions=2, warm_up=1)
    outcome = outcome_of(load, [report], Usage(1.0, 0.5, 10), Usage(3.0, 0.75, 20))
    assert sorted(outcome.latencies_ms) == pytest.approx([100, 200, 300, math.inf])
    assert (outcome.chunks, outcome.lost, outcome.wall_s) == (5, 1, 9.5)
    assert (outcome.server, outcome.idle_rss_bytes) == (Usage(2.0, 0.25, 20), 10)
    assert outcome.client_cpu_shares == (0.25,)


def test_the_interval_holds_the_median_of_nineteen_samples_in_twenty() -> None:
    random = np.random.default_rng(3)
    held = [low <= 1 <= high for low, high in (interval(1 + random.standard_normal(15)) for _ in range(200))]
    assert 0.9 <= np.mean(held) <= 0.99


def test_a_report_says_the_same_as_json_and_markdown() -> None:
    rows = [{"a": 1, "b": math.inf, "c": 1234.5}, {"a": 20_000, "b": 0.012345, "more": math.nan}]
    found = Found("test", [Table("some", {"a": "A", "b": "B ms", "c": "C"}, rows)], ["Note."], machine={"cpu": "x"})
    assert '"b": null' in found.as_json()
    assert '"more": null' in found.as_json()
    markdown = found.as_markdown()
    assert "| A | B ms | C |\n|---|---|---|\n| 1 | ∞ | 1234 |\n| 20000 | 0.0123 |  |" in markdown
    assert markdown.endswith("Note.\n")
