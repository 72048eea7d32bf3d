"""Plots of a sweep, as PNG and SVG; needs matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

__all__ = ["draw", "need_matplotlib"]

_LATENCIES = {"p50_ms": "p50", "p99_ms": "p99"}


def need_matplotlib() -> None:
    """Check that matplotlib is installed, before anything is measured in vain.

    Raises:
      ClickException: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise click.ClickException("plots need matplotlib: pip install 'headrace[bench]'") from None


def draw(stem: Path, title: str, x: str, x_label: str, rows: Sequence[Mapping[str, float]]) -> None:
    """Plot p50 and p99 latency, and below them the server's CPU time per chunk, against the quantity that varied.

    Args:
      stem: Path of the files without `.png` and `.svg`.
      title: Title of the plot.
      x: Key of the quantity that varied.
      x_label: Name of that quantity, with its unit.
      rows: Figures as `benchmarks.load.figures.summarize` returns them, and `x`.
    """
    from matplotlib.figure import Figure

    at = [row[x] for row in rows]
    figure = Figure(figsize=(7, 6), layout="constrained")
    latency, cpu = figure.subplots(2, sharex=True)
    for key, label in _LATENCIES.items():
        latency.plot(at, [row[key] for row in rows], marker="o", label=label)
    latency.set(title=title, ylabel="latency, ms", xscale="log", yscale="log")
    latency.legend()
    cpu.plot(at, [row["server_cpu_us_per_chunk"] for row in rows], marker="o", color="tab:green")
    cpu.set(xlabel=x_label, ylabel="server CPU per chunk, us", yscale="log")
    cpu.set_xticks(at, [f"{each:g}" for each in at], minor=False)
    cpu.minorticks_off()
    for axes in (latency, cpu):
        axes.grid(visible=True, which="both", alpha=0.3)
    for kind in ("png", "svg"):
        figure.savefig(stem.with_suffix(f".{kind}"), dpi=120)
