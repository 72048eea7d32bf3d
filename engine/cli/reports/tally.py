"""State of a stream so far, which all reports show."""

from __future__ import annotations

import attrs

from engine.cli.reports.speech_log import SpeechLog
from engine.errors import EngineError
from engine.latency import LatencyHistogram
from engine.messages import Ready, SessionMetrics

__all__ = ["Tally", "balances"]


@attrs.define
class Tally:
    """Counts and latencies as the client sees them; bounded, however long the stream.

    Attributes:
      latencies: From a chunk's send time (`Feeder.times`) to the arrival of its result, in ms.
      last_ms: The latest latency.
      results: Number of results of chunks; flushes are not counted.
      errors: Number of errors after which the session continued.
      failure: Error that ended the stream early, unless a signal ended it.
      interrupted_by: Number of the signal that ended the stream, or 0.
      metrics: Latest metrics of the session.
      heard_s: End of the audio that has results, in seconds.
      sent_s: Seconds of audio handed to the session.
    """

    ready: Ready | None = None
    latencies: LatencyHistogram = attrs.field(factory=LatencyHistogram)
    last_ms: float = 0.0
    results: int = 0
    errors: int = 0
    last_error: EngineError | None = None
    failure: BaseException | None = None
    interrupted_by: int = 0
    metrics: SessionMetrics | None = None
    speech: SpeechLog = attrs.field(factory=SpeechLog)
    heard_s: float = 0.0
    sent_s: float = 0.0
    elapsed_s: float = 0.0

    def fail(self, error: BaseException) -> None:
        """Record the error that ended the stream; if it was an event before, it no longer counts among the errors."""
        self.failure = error
        if self.last_error is not None and str(error) == str(self.last_error):
            self.errors -= 1

    @property
    def exit_code(self) -> int:
        """0 on success, 1 after any error or an unbalanced ledger, 128 + the signal's number after a signal."""
        if self.interrupted_by:
            return 128 + self.interrupted_by
        unbalanced = self.metrics is not None and self.metrics.final and not balances(self.metrics)
        return int(self.failure is not None or self.errors > 0 or unbalanced)


def balances(metrics: SessionMetrics) -> bool:
    """Return True if the final ledger of a session accounts for every chunk."""
    settled = metrics.delivered + metrics.rejected + metrics.dropped + metrics.cancelled
    return metrics.received == metrics.accepted + metrics.refused and metrics.accepted == settled + metrics.in_flight
