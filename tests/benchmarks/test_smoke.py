"""Every command at its smallest: that it measures and reports, never how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main


def run(*arguments: str) -> Any:
    """A command's report, as JSON."""
    told = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["machine"]["cores"] != "0"
    return report


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sessions", "3", "--seconds", "0.2", "--connections", "2", "--full"),
        ("--sessions", "2", "--pace", "back-to-back", "--chunk-ms", "4000", "--seconds", "8"),  # larger than a window
    ],
    ids=["real-time", "large-back-to-back"],
)
def test_latency(arguments: tuple[str, ...], tmp_path: Path) -> None:
    report = run("latency", "--warm-up", "1", "--out", str(tmp_path), *arguments)
    table, stages = report["tables"]
    (row,) = table["rows"]
    assert row["lost"] == row["errors"] == 0
    assert row["chunks"] == (30 if row["sessions"] == 3 else 4)
    assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["p99.9_ms"] <= row["max_ms"]
    assert row["server_cpu_us_per_chunk"] > 0
    assert row["server_rss_mb"] > 10
    names = [stage["name"] for stage in stages["rows"]]
    assert [name for name in names if name.endswith(": run")] == ["resample: run", "vad: run", "level: run"]
    assert json.loads((tmp_path / "latency.json").read_text()) == report
    assert "| sessions |" in (tmp_path / "latency.md").read_text()


def test_capacity() -> None:
    report = run(
        *("capacity", "--manifest", "passthrough", "--chunk-ms", "40", "--seconds", "0.2", "--limit-ms", "60000"),
        *("--start", "2", "--most", "3", "--repeats", "1"),
    )
    (table,) = report["tables"]
    assert [(row["sessions"], row["chunks"], row["passed"]) for row in table["rows"]] == [
        (2, 10, "yes"),
        (3, 15, "yes"),
    ]
    assert "No number of sessions failed" in report["notes"][0]


def test_engine() -> None:
    report = run("engine", "--depths", "2", "--fan-outs", "3", "--rows", "20", "--rounds", "1")
    shapes = [(row["graph"], row["nodes"], row["edges"], row["hops"]) for row in report["tables"][0]["rows"]]
    assert shapes == [("chain of 2", 2, 1, 3), ("1 to 3", 4, 3, 7), ("1 to 3 to 1", 5, 6, 8)]
    for row in report["tables"][0]["rows"]:
        assert row["engine_cpu_us"] > 0 < row["relay_cpu_us"]
        assert row["ratio_low"] == row["ratio"] == row["ratio_high"]
