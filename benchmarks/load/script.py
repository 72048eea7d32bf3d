"""Load that every comparison uses: sessions of ready-made messages.

A `Script` holds the messages of one session, in bytes, so that any gRPC server can be driven: Headrace through
`benchmarks.load.pipelines`, another server with messages of its own. A `Load` sets the number of sessions that follow
the script, and their pace. `benchmarks.load.drive` runs a load from separate client processes and returns an `Outcome`.

At real pace a chunk's clock starts when the chunk was *due*, not when the client got round to sending it, so that a
stall is charged to every chunk that it delayed (this corrects for coordinated omission). Back to back, a session has
one chunk under way at a time, and the clock starts at the send. Times are those of `time.perf_counter`, which on Linux
is one clock for all processes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt

from benchmarks.load.grpc_wire import AnyWire, connect
from benchmarks.report.machine import Usage

__all__ = ["Kind", "Load", "Outcome", "Report", "Script", "Share", "every_message", "outcome_of"]


class Kind(enum.Enum):
    """Kind of a message from the server."""

    ANSWER = "answer to the session's oldest chunk without one"
    KEPT = "kept for the report"
    ERROR = "kept and counted"
    OTHER = "ignored"


def every_message(message: bytes) -> Kind:
    """Return the kind of every message of a server that answers each chunk with one message and sends no others."""
    return Kind.ANSWER


@attrs.frozen(kw_only=True)
class Script:
    """Messages of one session.

    Attributes:
      path: Path of a bidirectional method, `/package.Service/Method`, or its counterpart in another protocol.
      connect: Connects to a host and a port in that protocol; a function of a module.
      calls_per_connection: Most calls on one connection in that protocol; 0 is any number.
      chunks: Messages that get one answer each, in order.
      opening: Messages before the first chunk.
      ready_after: Number of messages from the server to wait for after the opening.
      closing: Messages after the last answer; then the call is half-closed.
      kind_of: Returns the kind of a message from the server; a function of a module, because another process calls it.
      sample_every: Keep one in this number of each session's answers for the report; 0 keeps none.
    """

    path: str
    chunks: tuple[bytes, ...]
    opening: tuple[bytes, ...] = ()
    ready_after: int = 0
    closing: tuple[bytes, ...] = ()
    kind_of: Callable[[bytes], Kind] = every_message
    connect: Callable[[str, int], AnyWire] = connect
    calls_per_connection: int = 0
    sample_every: int = 0


@attrs.frozen(kw_only=True)
class Load:
    """Number and pace of the sessions that follow a script.

    Attributes:
      sessions: Number of sessions at once.
      period_s: Seconds between the chunks of a session; 0 is back to back: each is sent after the last one's answer.
      warm_up: Number of first chunks of each session whose latencies do not count.
      connections: Number of connections that the sessions share; 0 is one for every 25 sessions.
      processes: Number of client processes; 0 is one for each core that is not the server's, but at most four.
      beside: One more session, which sends all its chunks at once and whose answers do not count.
      beside_reads_per_s: Bytes of its answers that its client reads in a second; 0 is a stalled client.
      grace_s: Longest wait for answers after the last chunk was due; back to back, longest time without an answer.
    """

    script: Script
    sessions: int = attrs.field(validator=attrs.validators.ge(1))
    period_s: float = 0.0
    warm_up: int = 0
    connections: int = 0
    processes: int = 0
    beside: Script | None = None
    beside_reads_per_s: float = 0.0
    grace_s: float = 5.0


@attrs.frozen(kw_only=True)
class Share:
    """Part of a load for one client process; the part with session 0 also has the `beside` session."""

    load: Load
    host: str
    port: int
    sessions: tuple[int, ...]
    connections: int
    cores: frozenset[int]


@attrs.define(kw_only=True)
class Report:
    """Figures of one client process.

    Attributes:
      due, received: Seconds, shape (sessions, chunks); NaN for a chunk that was not sent, or not answered.
      late_s: Time from when a chunk was due to when this client got round to it, for each chunk.
      cpu_s, wall_s: CPU and wall time of this client, from the first chunk to the last answer.
      beside_unread_bytes: Bytes that arrived for the `beside` session and that it has not read.
      kept: Messages kept as `Kind.KEPT` or by sampling.
      errors: First few of the error messages and of the sessions that ended badly.
      failed: Number of all of these.
    """

    due: npt.NDArray[np.float64]
    received: npt.NDArray[np.float64]
    late_s: npt.NDArray[np.float64]
    cpu_s: float = 0.0
    wall_s: float = 0.0
    beside_unread_bytes: int = 0
    kept: list[bytes] = attrs.field(factory=list)
    errors: list[bytes | str] = attrs.field(factory=list)
    failed: int = 0


@attrs.frozen(kw_only=True)
class Outcome:
    """Result of a load.

    Attributes:
      latencies_ms: Latencies of the chunks after the warm-up; infinite for a chunk without an answer.
      chunks: Number of answered chunks, warm-up included.
      lost: Number of chunks sent or due and not answered, warm-up included.
      wall_s: Seconds from when the first chunk was due to the last answer.
      server: Resources that the server used in that time.
      idle_rss_bytes: Resident memory of the server when all sessions were open and none had sent a chunk.
      client_cpu_shares: CPU time over wall time of each client process: near 1, the client is the limit.
      client_late_p99_ms: 99th percentile of `late_s` over all clients, in ms.
      beside_unread_bytes, kept, errors, failed: As in `Report`, over all processes.
    """

    latencies_ms: npt.NDArray[np.float64]
    chunks: int
    lost: int
    wall_s: float
    server: Usage
    idle_rss_bytes: int
    client_cpu_shares: tuple[float, ...]
    client_late_p99_ms: float
    beside_unread_bytes: int
    kept: tuple[bytes, ...]
    errors: tuple[bytes | str, ...]
    failed: int

    @property
    def server_cpu_us_per_chunk(self) -> float:
        """CPU time of the server for each chunk that it answered."""
        return self.server.cpu_s / self.chunks * 1e6 if self.chunks else float("nan")


def outcome_of(load: Load, reports: list[Report], before: Usage, after: Usage) -> Outcome:
    """Combine the reports of all client processes and the server's usage before and after the load."""
    due = np.concatenate([report.due for report in reports])
    received = np.concatenate([report.received for report in reports])
    counted = (received - due)[:, load.warm_up :]
    late = np.concatenate([report.late_s for report in reports])
    answered = np.isfinite(received)
    return Outcome(
        latencies_ms=np.where(np.isfinite(counted), counted * 1e3, np.inf).ravel(),
        chunks=int(answered.sum()),
        lost=int(answered.size - answered.sum()),
        wall_s=float(np.nanmax(received) - np.nanmin(due)) if answered.any() else 0.0,
        server=after - before,
        idle_rss_bytes=before.rss_bytes,
        client_cpu_shares=tuple(report.cpu_s / report.wall_s for report in reports if report.wall_s),
        client_late_p99_ms=float(np.percentile(late, 99) * 1e3) if late.size else 0.0,
        beside_unread_bytes=sum(report.beside_unread_bytes for report in reports),
        kept=tuple(message for report in reports for message in report.kept),
        errors=tuple(message for report in reports for message in report.errors),
        failed=sum(report.failed for report in reports),
    )
