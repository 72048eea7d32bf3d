"""Latency of each chunk over a real socket, with one to many sessions, measured by `benchmarks.load`."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from benchmarks.load.figures import LOAD_COLUMNS, summarize
from benchmarks.load.options import Streamed, numbers_option, streamed_options
from benchmarks.load.pipelines import troubles
from benchmarks.load.run import run_load
from benchmarks.load.script import Load
from benchmarks.report.breakdown import account
from benchmarks.report.progress import progress
from benchmarks.report.report import Report, Table, publish, report_options

__all__ = ["latency"]

_STAGES = {"name": "stage", "mean_ms": "mean ms", "longest_ms": "longest ms"}


@click.command(context_settings={"show_default": True})
@numbers_option("--sessions", "1,10,50", "Numbers of sessions, one run for each.")
@streamed_options(seconds=10.0)
@click.option("--warm-up", default=10, type=click.IntRange(0), help="First chunks of a session, which do not count.")
@click.option("--pace", default="real", type=click.Choice(["real", "back-to-back"]), help="Pace of the chunks.")
@click.option("--connections", default=0, type=click.IntRange(0), help="Connections; 0 is one for 25 sessions.")
@report_options
def latency(
    sessions: tuple[int, ...],
    streamed: Streamed,
    warm_up: int,
    pace: str,
    connections: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure the latency per chunk over a real socket, with one to many sessions."""
    script = streamed.script(sample_every=10)
    nodes = [node.id for node in streamed.manifest.nodes]
    rows, stages, notes = [], [], []
    with progress() as bars:
        for count in sessions:
            load = Load(
                script=script,
                sessions=count,
                period_s=streamed.period_s if pace == "real" else 0.0,
                warm_up=min(warm_up, len(script.chunks) - 1),
                connections=connections,
            )
            outcome = run_load(load, bars)
            figures = summarize(outcome)
            rows.append({"sessions": count, **figures})
            ways = [attrs.asdict(stage) for stage in account(outcome.kept, figures["mean_ms"], nodes)]
            notes += troubles(outcome)
            stages.append(Table(f"where a chunk's time goes, {count} sessions", _STAGES, ways))
    title = f"{streamed}, pace {pace}"
    publish(Report("latency", [Table(title, LOAD_COLUMNS, rows), *stages], notes), as_json, out)
