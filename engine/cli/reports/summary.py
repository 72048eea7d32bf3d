"""Summary of a stream for people: speed, speech, latencies, nodes and the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.cli.common.terminal import printable
from engine.cli.reports.tally import Tally
from engine.messages import NodeFigures, SessionMetrics

__all__ = ["LABEL_WIDTH", "label", "latencies", "summary_parts"]

LABEL_WIDTH = 10


def summary_parts(tally: Tally, node_types: Mapping[str, str], side: str, realtime: bool) -> Iterator[RenderableType]:
    """Yield the lines and tables to print, in order.

    Args:
      tally: Tally of a stream that is over.
      node_types: Node id → type, in the order to show them.
      side: Origin of the session's own figures: "server" or "engine".
      realtime: True if the client's latencies count from due times, not from sending.
    """
    yield from _outcome(tally, side, realtime)
    if tally.metrics is not None:
        yield Text()
        yield Padding(_node_table(node_types, tally.metrics.figures), (0, 0, 0, 2), expand=False)
        yield Text()
        yield from _ledger(tally.metrics)


def _outcome(tally: Tally, side: str, realtime: bool) -> list[Text]:
    ended = "stopped" if tally.interrupted_by else "failed" if tally.failure else "streamed"
    pace = tally.sent_s / tally.elapsed_s if tally.elapsed_s else math.inf
    took = f"{tally.results} results for {tally.sent_s:.2f} s of audio in {tally.elapsed_s:.2f} s"
    lines = [Text.assemble(label(ended), f"{took}, {pace:.3g} x real time")]
    for node, count in tally.speech.count.items():
        speech_s = tally.speech.speech_ms[node] / 1000
        lines.append(Text.assemble(label("speech"), f"{count} segments, {speech_s:.2f} s, found by {node}"))
    since = "due" if realtime else "sent"
    lines.append(Text.assemble(label("latency"), latencies(tally), (f"   {since} to received", "dim")))
    if (own := tally.metrics) is not None:
        figures = _percentiles(own.p50_latency_ms, own.p95_latency_ms, own.p99_latency_ms, own.max_latency_ms)
        lines.append(Text.assemble(label(f"  {side}"), figures, ("   read to answered", "dim")))
    if tally.errors:
        lines.append(Text.assemble(label("errors"), (str(tally.errors), "red")))
    return lines


def label(name: str) -> tuple[str, str]:
    """Return the first column of a line, for `Text.assemble`."""
    return name.ljust(LABEL_WIDTH), "bold"


def _percentiles(p50: float, p95: float, p99: float, most: float) -> str:
    return f"p50 {p50:5.2f}  p95 {p95:5.2f}  p99 {p99:5.2f}  max {most:5.2f} ms"


def latencies(tally: Tally) -> str:
    """Return the client's latencies so far, in one line."""
    return _percentiles(*tally.latencies.percentiles(0.5, 0.95, 0.99, 1.0))


def _node_table(node_types: Mapping[str, str], figures: Mapping[str, NodeFigures]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("node")
    table.add_column("type")
    for heading in ("chunks", "run us", "longest us", "queued us", "all ms"):
        table.add_column(heading, justify="right")
    for node, node_type in node_types.items():
        if (each := figures.get(node)) is not None:
            share = 1000 / max(each.chunks, 1)
            table.add_row(
                Text(printable(node)),
                Text(printable(node_type), style="dim"),
                str(each.chunks),
                f"{each.run_ms * share:.0f}",
                f"{each.max_run_ms * 1000:.0f}",
                f"{each.queue_ms * share:.0f}",
                f"{each.run_ms:.1f}",
            )
    return table


def _ledger(metrics: SessionMetrics) -> list[Text]:
    received = f"{metrics.received} received = {metrics.accepted} accepted + {metrics.refused} refused"
    settled = (
        f"{metrics.accepted} accepted = {metrics.delivered} delivered + {metrics.rejected} rejected"
        f" + {metrics.dropped} dropped + {metrics.cancelled} cancelled"
    )
    under_way = f" + {metrics.in_flight} in flight" if metrics.in_flight else ""
    missing = f"   ({metrics.missing} missing)" if metrics.missing else ""
    state = "" if metrics.final else "   (last report, not final)"
    return [
        Text.assemble(label("ledger"), received, missing, (state, "dim")),
        Text.assemble(label(""), settled, under_way),
    ]
