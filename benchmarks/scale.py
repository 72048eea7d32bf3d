"""Growth of latency and cost with sessions, chunk length, graph depth, fan-out and message size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import click

from benchmarks.load.figures import LOAD_COLUMNS, summarize
from benchmarks.load.options import numbers_option
from benchmarks.load.pipelines import pipeline_script, troubles
from benchmarks.load.run import run_load
from benchmarks.load.script import Load
from benchmarks.load.workloads import branches, workload
from benchmarks.report.plots import draw, need_matplotlib
from benchmarks.report.progress import progress
from benchmarks.report.report import Report, Table, publish, report_options
from engine.manifest import Manifest

__all__ = ["scale"]

SPEECH_RATE = 16_000
SENT_BYTES = 40_000_000  # for a point with large messages


@attrs.frozen
class Sweep:
    """One quantity that varies while all others are fixed.

    Attributes:
      name: Name of the option that lists the points, and of the plot.
      title: Description of the fixed quantities.
      label: Name of the quantity that varies, with its unit.
      load: Makes the load from a point and the seconds that it may take.
    """

    name: str
    title: str
    label: str
    load: Callable[[float, float], Load]


def _paced(manifest: Manifest, sessions: int, chunk_ms: float, seconds: float, rate: int = SPEECH_RATE) -> Load:
    chunks = max(2, round(seconds * 1000 / chunk_ms))
    script = pipeline_script(manifest, chunk_ms=chunk_ms, chunks=chunks, sample_rate=rate)
    return Load(script=script, sessions=sessions, period_s=chunk_ms / 1000, warm_up=min(10, chunks // 4))


def _message(size: float, seconds: float) -> Load:
    chunks = int(min(100 * seconds, max(4, SENT_BYTES / size)))
    chunk_ms = size / 2 / SPEECH_RATE * 1000
    script = pipeline_script(workload("passthrough"), chunk_ms=chunk_ms, chunks=chunks, sample_rate=SPEECH_RATE)
    return Load(script=script, sessions=1, warm_up=chunks // 4)


SWEEPS = (
    Sweep(
        "sessions", "PassThrough → VAD, 100 ms chunks, real pace", "sessions",
        lambda point, seconds: _paced(workload("vad"), int(point), 100, seconds),
    ),
    Sweep(
        "chunk-ms", "48 → 16 kHz, VAD, level; 10 sessions, real pace", "chunk length, ms",
        lambda point, seconds: _paced(workload("speech"), 10, point, seconds, 48_000),
    ),
    Sweep(
        "depth", "a chain of PassThrough, 20 ms chunks, 5 sessions, real pace", "nodes in the chain",
        lambda point, seconds: _paced(branches(int(point), 1), 5, 20, seconds),
    ),
    Sweep(
        "fan-out", "one PassThrough that feeds others, 20 ms chunks, 5 sessions, real pace", "fan-out",
        lambda point, seconds: _paced(branches(2, int(point)), 5, 20, seconds),
    ),
    Sweep("message-bytes", "PassThrough, 1 session, back to back", "bytes of audio in a message", _message),
)  # fmt: skip


@click.command(context_settings={"show_default": True})
@numbers_option("--sessions", "1,10,50,100,200,500,1000", "Sessions at once.")
@numbers_option("--chunk-ms", "10,20,50,100,200", "Length of a chunk.", kind=float)
@numbers_option("--depth", "1,2,5,10,20,50", "Nodes in a chain.")
@numbers_option("--fan-out", "1,2,4,8,16", "Nodes that one node feeds.")
@numbers_option("--message-bytes", "100,1000,10000,100000,1000000,10000000", "Bytes of audio in a message.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([sweep.name for sweep in SWEEPS]),
    show_default=False,
    help="Vary this; repeatable.  [default: each in turn]",
)
@click.option("--seconds", default=3.0, type=click.FloatRange(0.1), help="Approximate time for a point.")
@report_options
def scale(only: tuple[str, ...], seconds: float, as_json: bool, out: Path | None, **points: tuple[float, ...]) -> None:
    """Measure how latency and cost grow; with --out, plot each sweep."""
    if out is not None:
        need_matplotlib()
        out.mkdir(parents=True, exist_ok=True)
    tables, plots, notes = [], [], []
    with progress() as bars:
        for sweep in SWEEPS:
            if only and sweep.name not in only:
                continue
            rows = []
            for point in points[sweep.name.replace("-", "_")]:
                outcome = run_load(sweep.load(point, seconds), bars, f"{sweep.label}: {point:g}")
                notes += troubles(outcome)
                rows.append({sweep.name: point, **summarize(outcome)})
            columns = {key: heading for key, heading in LOAD_COLUMNS.items() if key != "sessions"}
            tables.append(Table(sweep.title, {sweep.name: sweep.label, **columns}, rows))
            if out is not None:
                plots.append(f"scale-{sweep.name}")
                draw(out / plots[-1], sweep.title, sweep.name, sweep.label, rows)
    publish(Report("scale", tables, notes, plots, packages=["matplotlib"]), as_json, out)
