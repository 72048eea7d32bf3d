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
