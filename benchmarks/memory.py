"""Resident memory that a session adds to the server, idle and active, and the memory that the server accounts for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.load.options import Streamed, numbers_option, streamed_options
from benchmarks.load.run import run_load
from benchmarks.load.script import Load, Outcome
from benchmarks.report.progress import progress
from benchmarks.report.report import Report, Table, publish, report_options
from protos import streaming_pb2 as streaming

__all__ = ["memory"]

RUNS = {
    "sessions": "sessions",
    "idle_mb": "RSS MB, idle",
    "active_mb": "RSS MB, active",
    "accounted_mb": "accounted MB, largest session",
}
SLOPES = {
    "idle_kb": "RSS kB per idle session",
    "active_kb": "RSS kB per active session",
    "accounted_mb": "accounted MB, largest session",
}
_NOTE = (
    "RSS per session is the slope of a line through the runs, each of a fresh server. Idle: all are open, and none has"
    " sent anything. Active: all are streaming, at the end of the run."
)


def _slope(runs: Sequence[Mapping[str, float]], key: str) -> float:
    return float(np.polyfit([run["sessions"] for run in runs], [run[key] for run in runs], 1)[0])


def _accounted_mb(outcome: Outcome) -> float:
    finals = [streaming.StreamResponse.FromString(each).metrics for each in outcome.kept]
    return max((each.peak_memory_bytes for each in finals), default=0) / 1e6


@click.command(context_settings={"show_default": True})
@numbers_option("--sessions", "1,125,250,375,500", "Sessions at once.")
@streamed_options(seconds=3.0, chunk_ms=200.0)
@report_options
def memory(
    sessions: tuple[int, ...],
    streamed: Streamed,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure the resident memory per idle and per active session, and the accounted memory."""
    if len(set(sessions)) < 2:
        raise click.UsageError("--sessions must have two different numbers: memory per session is a slope")
    script = streamed.script()
    runs = []
    with progress() as bars:
        for count in sessions:
            outcome = run_load(Load(script=script, sessions=count, period_s=streamed.period_s), bars)
            rss = {"idle_mb": outcome.idle_rss_bytes / 1e6, "active_mb": outcome.server.rss_bytes / 1e6}
            runs.append({"sessions": count, **rss, "accounted_mb": _accounted_mb(outcome)})
    slopes = {
        "idle_kb": _slope(runs, "idle_mb") * 1e3,
        "active_kb": _slope(runs, "active_mb") * 1e3,
        "accounted_mb": max(run["accounted_mb"] for run in runs),
    }
    publish(
        Report("memory", [Table(str(streamed), SLOPES, [slopes]), Table("runs", RUNS, runs)], [_NOTE]), as_json, out
    )
