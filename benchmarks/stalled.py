"""Effect of a session whose client reads nothing, or slowly, on the other sessions of its server and connection.

Runs with and without that session take turns. The ratio of the others' p99 is taken in each pair: if the 95 % interval
of its median contains 1, the session had no effect. The others must leave the server's core some room: on a full core,
p99 is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.load.figures import interval, spread, summarize
from benchmarks.load.options import Streamed, streamed_options
from benchmarks.load.pipelines import pipeline_script
from benchmarks.load.run import run_load
from benchmarks.load.script import Load, Script
from benchmarks.load.workloads import workload
from benchmarks.report.progress import Bars, progress
from benchmarks.report.report import Report, Table, publish, report_options

__all__ = ["stalled"]

BESIDE_MESSAGE_MS, BESIDE_MESSAGES = 100.0, 200  # 1.9 MB each way, which fills every window
PAIRS = {
    "pair": "pair",
    "without_p99_ms": "p99 without ms",
    "with_p99_ms": "p99 with ms",
    "ratio": "ratio",
    "unread_kb": "unread kB",
}
SUMMARY = {
    "without_p99_ms": "median p99 without ms",
    "with_p99_ms": "with ms",
    "ratio": "median ratio",
    "low": "95 % from",
    "high": "to",
    "holds_1": "holds 1",
}


def _beside() -> Script:
    """Make the script of a session with a longer echo than a client may leave unread."""
    return pipeline_script(workload("passthrough"), chunk_ms=BESIDE_MESSAGE_MS, chunks=BESIDE_MESSAGES)


@click.command(context_settings={"show_default": True})
@click.option("--sessions", default=100, type=click.IntRange(1), help="Number of the other sessions, at real pace.")
@streamed_options(seconds=5.0, chunk_ms=50.0, manifest="passthrough")
@click.option("--pairs", default=16, type=click.IntRange(1), help="Pairs of runs, without and with that session.")
@click.option("--reads-per-s", default=0.0, type=click.FloatRange(0), help="Bytes/s that its client reads; 0 is none.")
@report_options
def stalled(
    sessions: int,
    streamed: Streamed,
    pairs: int,
    reads_per_s: float,
    as_json: bool,
    out: Path | None,
) -> None:
    """Compare the p99 of many sessions without and with one more session, whose client stalls or reads slowly."""
    script = streamed.script()
    loads = {
        name: Load(
            script=script,
            sessions=sessions,
            period_s=streamed.period_s,
            warm_up=len(script.chunks) // 5,
            beside=beside,
            beside_reads_per_s=reads_per_s,
        )
        for name, beside in (("without", None), ("with", _beside()))
    }
    with progress() as bars:
        rows = [_run_pair(number, pairs, loads, bars) for number in range(1, pairs + 1)]
    kind = f"reads {reads_per_s:g} bytes/s" if reads_per_s else "has stalled"
    title = f"{sessions} sessions of {streamed}, beside one whose client {kind}"
    publish(Report("stalled", [Table(title, SUMMARY, [_summary(rows)]), Table("pairs", PAIRS, rows)]), as_json, out)


def _run_pair(number: int, pairs: int, loads: Mapping[str, Load], bars: Bars) -> dict[str, float]:
    """Run both loads, in an order that alternates from pair to pair; return the pair's row."""
    names = sorted(loads, reverse=number % 2 == 0)
    runs = {name: _run(name, loads[name], bars, f"pair {number} of {pairs}, {name}") for name in names}
    without_ms, with_ms = runs["without"][0], runs["with"][0]
    row = {"pair": number, "without_p99_ms": without_ms, "with_p99_ms": with_ms}
    return {**row, "ratio": with_ms / without_ms, "unread_kb": runs["with"][1] / 1e3}


def _run(name: str, load: Load, bars: Bars, text: str) -> tuple[float, int]:
    """Run one load of a pair; return p99 in ms, and the bytes that the slow session has not read.

    Raises:
      ClickException: chunks were lost or failed.
    """
    outcome = run_load(load, bars, text)
    figures = summarize(outcome)
    if figures["lost"] or figures["errors"]:
        raise click.ClickException(
            f"a run {name} the slow session lost {figures['lost']:.0f} chunks, and the server waited"
            f" {figures['server_waited_percent']:.0f} % of the time for its core: use fewer --sessions"
        )
    return figures["p99_ms"], outcome.beside_unread_bytes


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float | str]:
    low, high = interval([row["ratio"] for row in rows])
    medians = {key: spread([row[key] for row in rows])[0] for key in ("without_p99_ms", "with_p99_ms", "ratio")}
    return {**medians, "low": low, "high": high, "holds_1": "yes" if low <= 1 <= high else "no"}
