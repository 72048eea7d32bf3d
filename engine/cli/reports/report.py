"""Reports of a running stream: the interface, and the report as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import click

from engine.cli.common.terminal import print_json
from engine.cli.reports.output_files import OutputFiles
from engine.cli.reports.speech_log import Segment
from engine.cli.reports.tally import Tally, balances
from engine.errors import EngineError
from engine.messages import Result, SessionMetrics

__all__ = ["JsonReport", "Report", "latency_figures"]


class Report(Protocol):
    """Receiver of every event of a stream."""

    def ready(self, tally: Tally) -> None:
        """Report that the session takes chunks now."""

    def result(self, tally: Tally, result: Result, latency_ms: float | None) -> None:
        """Report a result; `latency_ms` is None if the latency of its chunk is unknown."""

    def segment(self, tally: Tally, segment: Segment) -> None:
        """Report a segment of speech that has begun or ended."""

    def text(self, tally: Tally, node: str, text: str) -> None:
        """Report words that a node recognized: its data have a `text` that is not empty."""

    def error(self, tally: Tally, error: EngineError) -> None:
        """Report an error, which may or may not end the session."""

    def metrics(self, tally: Tally, metrics: SessionMetrics) -> None:
        """Report the session's own metrics."""

    def summary(self, tally: Tally, files: OutputFiles | None) -> None:
        """Report the end of the stream, orderly or not."""

    def failed(self, message: str, error: BaseException) -> None:
        """Report that the command failed, without a stream or after the summary."""


def latency_figures(tally: Tally) -> dict[str, float]:
    """Return the client's latencies in ms, for JSON; percentiles are within 1 %."""
    latencies = tally.latencies
    p50, p95, p99 = latencies.percentiles(0.5, 0.95, 0.99)
    return {
        "p50": round(p50, 3),
        "p95": round(p95, 3),
        "p99": round(p99, 3),
        "max": round(latencies.max_ms, 3),
        "mean": round(latencies.average_ms, 3),
        "chunks": latencies.count,
    }


class JsonReport:
    """Report as JSON lines, of the `type` `ready`, `result`, `segment`, `text`, `error`, `metrics` or `summary`.

    Args:
      about: Further fields of the `ready` line: file, source, pipeline.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about = dict(about)

    def ready(self, tally: Tally) -> None:
        """Print one `ready` line."""
        assert tally.ready is not None
        print_json({"type": "ready", **attrs.asdict(tally.ready), **self._about})

    def result(self, tally: Tally, result: Result, latency_ms: float | None) -> None:
        """Print one `result` line, with the outputs' data, and the length and format of their audio."""
        line: dict[str, Any] = {
            "type": "result",
            "sequence": result.sequence,
            "flush": result.flush,
            "status": result.status.value,
            "latency_ms": None if latency_ms is None else round(latency_ms, 3),
            "outputs": {},
        }
        for node, output in result.outputs.items():
            shown = line["outputs"][node] = {}
            if (audio := output.audio) is not None:
                shown["audio"] = {
                    "frames": len(audio.frames),
                    "channels": audio.channels,
                    "sample_rate": audio.sample_rate,
                    "format": audio.sample_format,
                }
            if output.data is not None:
                shown["data"] = dict(output.data.value)
        print_json(line)

    def segment(self, tally: Tally, segment: Segment) -> None:
        """Print one `segment` line; `end_ms` is null while the segment is open."""
        print_json({"type": "segment", **attrs.asdict(segment)})

    def text(self, tally: Tally, node: str, text: str) -> None:
        """Print one `text` line."""
        print_json({"type": "text", "node": node, "text": text})

    def error(self, tally: Tally, error: EngineError) -> None:
        """Print one `error` line."""
        print_json(_error_line(error.message, error))

    def metrics(self, tally: Tally, metrics: SessionMetrics) -> None:
        """Print one `metrics` line."""
        print_json({"type": "metrics", **attrs.asdict(metrics)})

    def summary(self, tally: Tally, files: OutputFiles | None) -> None:
        """Print the `summary` line, the last one of a stream."""
        metrics = tally.metrics
        print_json(
            {
                "type": "summary",
                "exit_code": tally.exit_code,
                "failure": None if tally.failure is None else str(tally.failure),
                "interrupted": bool(tally.interrupted_by),
                "results": tally.results,
                "errors": tally.errors,
                "audio_s": round(tally.sent_s, 3),
                "elapsed_s": round(tally.elapsed_s, 3),
                "latency_ms": latency_figures(tally),
                "speech": {
                    node: {"segments": count, "speech_ms": round(tally.speech.speech_ms[node], 3)}
                    for node, count in tally.speech.count.items()
                },
                "balanced": balances(metrics) if metrics is not None and metrics.final else None,
                "metrics": attrs.asdict(metrics) if metrics is not None else None,
                "files": [
                    {**attrs.asdict(each), "path": str(each.path)} for each in (files.written.values() if files else ())
                ],
            }
        )

    def failed(self, message: str, error: BaseException) -> None:
        """Print an `error` line, and the message on standard error."""
        print_json(_error_line(message, error))
        click.echo(f"Error: {message}", err=True, file=sys.stderr)


def _error_line(message: str, error: BaseException) -> dict[str, Any]:
    line: dict[str, Any] = {"type": "error", "message": message}
    if isinstance(error, EngineError):
        line.update(
            category=error.category.value,
            node_id=error.node_id,
            sequence=error.sequence,
            context=json.loads(error.context_json() or "{}"),
        )
        if error.stack_trace:
            line["stack_trace"] = error.stack_trace
    return line
