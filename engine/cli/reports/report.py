"""What a command shows while a stream runs: the interface, and the one for machines."""

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
    """Is told of everything that happens in a stream."""

    def ready(self, tally: Tally) -> None:
        """The session takes chunks now."""

    def result(self, tally: Tally, result: Result, latency_ms: float | None) -> None:
        """A result has come; `latency_ms` is None if that of its chunk is not known."""

    def segment(self, tally: Tally, segment: Segment) -> None:
        """Speech has been found, or has ended."""

    def text(self, tally: Tally, node: str, text: str) -> None:
        """A node has understood words: its data have a `text` that is not empty."""

    def error(self, tally: Tally, error: EngineError) -> None:
        """An error has come; it may or may not be the session's end."""

    def metrics(self, tally: Tally, metrics: SessionMetrics) -> None:
        """The session has told its account."""

    def summary(self, tally: Tally, files: OutputFiles | None) -> None:
        """The stream is over, however it ended."""

    def failed(self, message: str, error: BaseException) -> None:
        """The command ends without a stream, or after its summary."""


def latency_figures(tally: Tally) -> dict[str, float]:
    """The client's latencies, for JSON: percentiles are within 1 %."""
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
    """Lines of JSON: `ready`, `result`, `segment`, `text`, `error`, `metrics`, `summary`, told apart by `type`.

    Args:
      about: What the `ready` line says besides: file, source, pipeline.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about = dict(about)

    def ready(self, tally: Tally) -> None:
        """One `ready` line."""
        assert tally.ready is not None
        print_json({"type": "ready", **attrs.asdict(tally.ready), **self._about})

    def result(self, tally: Tally, result: Result, latency_ms: float | None) -> None:
        """One `result` line, with the outputs' data and the audio's measures."""
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
        """One `segment` line; `end_ms` is null while it is open."""
        print_json({"type": "segment", **attrs.asdict(segment)})

    def text(self, tally: Tally, node: str, text: str) -> None:
        """One `text` line."""
        print_json({"type": "text", "node": node, "text": text})

    def error(self, tally: Tally, error: EngineError) -> None:
        """One `error` line."""
        print_json(_error_line(error.message, error))

    def metrics(self, tally: Tally, metrics: SessionMetrics) -> None:
        """One `metrics` line."""
        print_json({"type": "metrics", **attrs.asdict(metrics)})

    def summary(self, tally: Tally, files: OutputFiles | None) -> None:
        """The last line."""
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
        """An `error` line, and the same in words on standard error."""
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
