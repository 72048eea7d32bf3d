"""What is known of a stream so far: the one state that the reports show."""

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
      latencies: From a chunk's setting out (`Feeder.times`) until its result was here, in ms.
      last_ms: The latest of them.
      results: Of chunks; flushes are not counted.
      errors: Those after which the session went on.
      failure: What ended the stream early, if that was no signal.
      interrupted_by: The signal that ended it, or 0.
      metrics: The session's own account, as last told.
      heard_s: How much of the audio has results.
      sent_s: How much of it has been handed over.
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
        """The stream ended with this; told as an event before, it is no longer one of the errors."""
        self.failure = error
        if self.last_error is not None and str(error) == str(self.last_error):
            self.errors -= 1

    @property
    def exit_code(self) -> int:
        """0 if all went well, 1 if anything did not, 128 + the signal if one ended it."""
        if self.interrupted_by:
            return 128 + self.interrupted_by
        unbalanced = self.metrics is not None and self.metrics.final and not balances(self.metrics)
        return int(self.failure is not None or self.errors > 0 or unbalanced)


def balances(metrics: SessionMetrics) -> bool:
    """Whether the ledger of a session that is over accounts for every chunk."""
    settled = metrics.delivered + metrics.rejected + metrics.dropped + metrics.cancelled
    return metrics.received == metrics.accepted + metrics.refused and metrics.accepted == settled + metrics.in_flight
