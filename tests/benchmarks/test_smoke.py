"""Every command at its smallest: it measures and reports; speed is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from benchmarks.__main__ import main


def run(*arguments: str) -> Any:
    """Run a command; return its report, from JSON."""
    told = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["machine"]["cores"] != "0"
    return report


def test_latency(tmp_path: Path) -> None:
    report = run(
        *("latency", "--sessions", "3", "--seconds", "0.2", "--connections", "2", "--full", "--warm-up", "1"),
        *("--out", str(tmp_path)),
    )
    table, stages = report["tables"]
    (row,) = table["rows"]
    check(row, chunks=30)
    names = [stage["name"] for stage in stages["rows"]]
    assert [name for name in names if name.endswith(": run")] == ["resample: run", "vad: run", "level: run"]
    assert json.loads((tmp_path / "latency.json").read_text()) == report
    assert "| sessions |" in (tmp_path / "latency.md").read_text()


def check(row: dict[str, Any], *, chunks: int) -> None:
    assert row["lost"] == row["errors"] == 0
    assert row["chunks"] == chunks
    assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["p99.9_ms"] <= row["max_ms"]
    assert row["server_cpu_us_per_chunk"] > 0
    assert row["server_rss_mb"] > 10
    assert row["client_busy_percent"] > 0


def test_capacity() -> None:
    report = run(
        *("capacity", "--manifest", "passthrough", "--chunk-ms", "40", "--seconds", "0.2", "--limit-ms", "60000"),
        *("--start", "2", "--most", "2", "--repeats", "1"),
    )
    (table,) = report["tables"]
    assert [(row["sessions"], row["chunks"], row["passed"]) for row in table["rows"]] == [(2, 10, "yes")]
    assert "No number of sessions failed" in report["notes"][0]


def test_engine() -> None:
    report = run("engine", "--depths", "2", "--fan-outs", "3", "--rows", "20", "--rounds", "1")
    shapes = [(row["graph"], row["nodes"], row["edges"], row["hops"]) for row in report["tables"][0]["rows"]]
    assert shapes == [("chain of 2", 2, 1, 3), ("1 to 3", 4, 3, 7), ("1 to 3 to 1", 5, 6, 8)]
    for row in report["tables"][0]["rows"]:
        assert row["engine_cpu_us"] > 0 < row["relay_cpu_us"]
        assert row["ratio_low"] == row["ratio"] == row["ratio_high"]


def test_scale(tmp_path: Path) -> None:
    """With messages that are larger than every window, back to back, and a plot."""
    report = run(
        *("scale", "--only", "message-bytes", "--message-bytes", "1000000", "--seconds", "0.1"),
        *("--out", str(tmp_path)),
    )
    (table,) = report["tables"]
    (row,) = table["rows"]
    assert row["message-bytes"] == 1e6
    check(row, chunks=10)
    assert (tmp_path / "scale-message-bytes.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "scale-message-bytes.svg").read_text()
    assert "![scale-message-bytes](scale-message-bytes.png)" in (tmp_path / "scale.md").read_text()


def test_unary() -> None:
    (row,) = run("unary", "--seconds", "0.2", "--calls", "3")["tables"][0]["rows"]
    assert row["calls"] == 3
    assert 0 < row["min_ms"] <= row["p50_ms"] <= row["max_ms"]
    for share in ("reported_percent", "measured_percent", "within_twice_percent"):
        assert 0 <= row[share] <= 100


def test_memory() -> None:
    slopes, runs = run(
        *("memory", "--sessions", "1,3", "--manifest", "passthrough", "--chunk-ms", "20", "--seconds", "0.1")
    )["tables"]
    assert [row["sessions"] for row in runs["rows"]] == [1, 3]
    for row in runs["rows"]:
        assert 10 < row["idle_mb"] <= row["active_mb"] + 1
        assert 0 < row["accounted_mb"] < 1
    assert slopes["rows"][0].keys() == {"idle_kb", "active_kb", "accounted_mb"}


def test_stalled() -> None:
    summary, pairs = run(
        *("stalled", "--sessions", "2", "--manifest", "passthrough", "--seconds", "0.2", "--pairs", "1")
    )["tables"]
    (pair,) = pairs["rows"]
    assert pair["ratio"] == pair["with_p99_ms"] / pair["without_p99_ms"]
    assert summary["rows"][0]["low"] == summary["rows"][0]["high"] == pair["ratio"]


def test_endurance() -> None:
    (row,) = run("endurance", "Gain", "--minutes", "10")["tables"][0]["rows"]
    assert (row["node"], row["minutes"]) == ("Gain", 10)
    assert row["growth_mb"] == row["last_mb"] - row["settled_mb"]
    assert row["held_kb"] > 0
