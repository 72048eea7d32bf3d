"""Report for people: a live display on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

import click
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.cli.common.explanations import explain
from engine.cli.common.terminal import make_console, printable
from engine.cli.reports.output_files import OutputFiles
from engine.cli.reports.speech_log import Segment
from engine.cli.reports.summary import LABEL_WIDTH, label, latencies, summary_parts
from engine.cli.reports.tally import Tally
from engine.cli.reports.timeline import Timeline
from engine.errors import EngineError
from engine.messages import Result, SessionMetrics

__all__ = ["ConsoleReport"]

_REFRESH_S = 0.1
_LINE_S = 5.0
_ERRORS_SHOWN = 5


class ConsoleReport:
    """Report that shows a stream while it runs.

    Args:
      head: Description of the stream, in lines of a label and a text.
      duration_s: Duration of the audio, for the progress bar.
      node_types: Node id → type, in the pipeline's order, for the table.
      side: Origin of the session's own figures: "server" or "engine".
      realtime: True if the client's latencies count from due times, not from sending.
    """

    def __init__(
        self,
        head: Sequence[tuple[str, str]],
        duration_s: float,
        node_types: Mapping[str, str],
        *,
        side: str,
        realtime: bool,
    ) -> None:
        self._console = make_console()
        self._head, self._duration_s, self._node_types = head, duration_s, node_types
        self._side, self._realtime = side, realtime
        self._timeline = Timeline(duration_s, max(10, min(60, self._console.width - LABEL_WIDTH - 2)))
        self._live: Live | None = None
        self._shown_at = monotonic()
        self._errors = 0

    # ---- events

    def ready(self, tally: Tally) -> None:
        """Print the description of the stream, and start the live display."""
        assert tally.ready is not None
        ready = tally.ready
        session = f"{ready.session_id}, delay up to {ready.max_delay_ms:.3g} ms, window {ready.input_capacity}"
        for name, text in (*self._head, ("session", session)):
            line = Table.grid()
            line.add_column(width=LABEL_WIDTH)
            line.add_row(Text(name, style="bold"), printable(text))
            self._say(line)
        self._say(Text())
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def result(self, tally: Tally, result: Result, latency_ms: float | None) -> None:
        """Record levels, and show the progress now and then: right after a result, a paced stream is idle."""
        for node, output in result.outputs.items():
            if output.data is not None:
                self._timeline.level(node, output.data.value)
        self._show_progress(tally)

    def segment(self, tally: Tally, segment: Segment) -> None:
        """Print the start of a segment of speech, then its end, each with the stream's position at that moment."""
        self._timeline.speech(segment)
        line = Text(f"  at {tally.heard_s:7.2f} s   ", style="dim")
        line.append("speech from ", style="not dim")
        line.append(f"{segment.start_ms / 1000:7.2f} s", style="not dim")
        if segment.end_ms is not None:
            line.append(f" to {segment.end_ms / 1000:7.2f} s", style="not dim green")
            line.append(f"   {segment.duration_ms / 1000:.2f} s long")
        several = len({*tally.speech.count, *(node for node, _ in tally.speech.open)}) > 1
        if several:
            line.append(f"   ({printable(segment.node)})")
        self._say(line)

    def text(self, tally: Tally, node: str, text: str) -> None:
        """Print recognized text, with the stream's position and the node."""
        line = Text(f"  at {tally.heard_s:7.2f} s   ", style="dim")
        line.append(printable(text), style="not dim bold")
        line.append(f"   ({printable(node)})")
        self._say(line)

    def error(self, tally: Tally, error: EngineError) -> None:
        """Print the first few errors; the summary counts all of them."""
        self._errors += 1
        if self._errors > _ERRORS_SHOWN:
            return
        where = "" if error.sequence is None else f"chunk {error.sequence}: "
        self._complain(f"{where}{error.message}")
        if self._errors == _ERRORS_SHOWN:
            self._complain("further errors are counted, not shown")

    def metrics(self, tally: Tally, metrics: SessionMetrics) -> None:
        """Show the progress, so that a stream without results does not look stalled."""
        self._show_progress(tally)

    def failed(self, message: str, error: BaseException) -> None:
        """Print the message on standard error."""
        self._stop_live()
        click.echo(f"Error: {printable(message)}", err=True)

    # ---- live display

    def _say(self, line: RenderableType) -> None:
        self._console.print(line)

    def _complain(self, message: str) -> None:
        if self._live is not None:
            self._say(Text(f"  error  {printable(message)}", style="red"))
        else:
            click.echo(f"error: {printable(message)}", err=True)

    def _show_progress(self, tally: Tally) -> None:
        now = monotonic()
        if now - self._shown_at < (_REFRESH_S if self._live else _LINE_S):
            return
        self._shown_at = now
        if self._live is not None:
            self._live.update(self._scene(tally), refresh=True)
        else:
            self._say(Text(f"  at {tally.heard_s:7.2f} s   {latencies(tally)}"))

    def _scene(self, tally: Tally) -> RenderableType:
        bar = ProgressBar(
            total=max(self._duration_s, 1e-3),
            completed=tally.heard_s,
            width=self._timeline.columns,
            complete_style="default",
            finished_style="default",
        )
        place = f"{tally.heard_s:.1f} of {self._duration_s:.1f} s"
        if tally.metrics is not None:
            place += f", {tally.metrics.in_flight} chunks under way"
        grid = Table.grid()
        grid.add_column(width=LABEL_WIDTH)
        grid.add_row()
        for name, strip in self._strips(tally.heard_s):
            grid.add_row(Text(name, style="bold"), strip)
        grid.add_row("", bar)
        grid.add_row(Text("at", style="bold"), place)
        grid.add_row(Text("latency", style="bold"), f"{latencies(tally)}   last {tally.last_ms:.2f}")
        return grid

    def _strips(self, heard_s: float) -> list[tuple[str, Text]]:
        if not self._console.encoding.lower().startswith("utf"):
            return []
        strips = {
            "level": Text(self._timeline.level_strip(), style="cyan"),
            "speech": Text(self._timeline.speech_strip(heard_s), style="green"),
        }
        return [(name, strip) for name, strip in strips.items() if strip]

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # ---- summary

    def summary(self, tally: Tally, files: OutputFiles | None) -> None:
        """Print the summary."""
        self._stop_live()
        self._say(Text())
        if strips := self._strips(tally.heard_s):
            for name, strip in strips:
                strip.rstrip()
                self._say(Text.assemble(label(name), strip))
            self._say(Text())
        for part in summary_parts(tally, self._node_types, self._side, self._realtime):
            self._say(part)
        for i, each in enumerate(files.written.values() if files else ()):
            self._say(Text.assemble(label("" if i else "files"), printable(str(each))))
        if tally.failure is not None:
            explained = explain(tally.failure)
            message = explained[0] if explained else str(tally.failure)
            if tally.last_error is None or self._errors > _ERRORS_SHOWN or str(tally.failure) != str(tally.last_error):
                self.failed(message, tally.failure)
