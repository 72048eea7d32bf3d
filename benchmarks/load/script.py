"""The load that every comparison uses: sessions of ready-made messages.

A `Script` is what one session says, in bytes, so that any gRPC server can be driven: Headrace through
`benchmarks.load.pipelines`, another one with messages of its own. A `Load` is how many sessions follow it, and at what
pace.
`benchmarks.load.drive` runs a load, from client processes of their own, and gives an `Outcome`.

At real pace a chunk's clock starts when the chunk was *due*, not when the client got round to sending it, so that a
stall is charged to every chunk that it delayed (this corrects for coordinated omission). Back to back, one chunk is
under way in a session at a time, and its clock starts at the send. Times are `time.perf_counter`'s, which on Linux is
one clock for all processes.
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
    """What a message from the server is."""

    ANSWER = "to the session's oldest chunk without one"
    KEPT = "kept for the report"
    ERROR = "kept, and counted"
    OTHER = "ignored"


def every_message(message: bytes) -> Kind:
    """For a server that answers each chunk with one message, and says nothing else."""
    return Kind.ANSWER


@attrs.frozen(kw_only=True)
class Script:
    """What one session says.

    Attributes:
      path: `/package.Service/Method`, a bidirectional one; or what takes its place in another protocol.
      connect: To a host and a port, in that protocol; a function of a module.
      calls_per_connection: As many as there can be in it; 0 is any number.
      chunks: Messages that get one answer each, in order.
      opening: Messages before the first chunk.
      ready_after: How many messages of the server to wait for after them.
      closing: Messages after the last answer; then this side of the call is closed.
      kind_of: Tells what a message of the server is; a function of a module, since it is called in another process.
      sample_every: Answers kept for the report: every so many of each session; 0 is none.
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
    """How a script is followed.

    Attributes:
      sessions: At once.
      period_s: Between the chunks of a session; 0 is back to back: the next goes when the last one's answer has come.
      warm_up: Chunks of each session, its first ones, whose latencies do not count.
      connections: That the sessions share; 0 is one for every 25 sessions.
      processes: Of clients; 0 is one for each core that is not the server's, but no more than four.
      beside: One more session, which sends all its chunks at once and whose answers do not count.
      beside_reads_per_s: Bytes of its answers that its client reads; 0 is a client that has stalled.
      grace_s: After the last chunk was due, how long its answer is waited for; back to back, how long a silence.
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
    """One client process's part of a load: these of its sessions, over so many connections; the first one's is more."""

    load: Load
    host: str
    port: int
    sessions: tuple[int, ...]
    connections: int
    cores: frozenset[int]


@attrs.define(kw_only=True)
class Report:
    """What one client process has to say.

    Attributes:
      due, received: Seconds, shape (sessions, chunks); NaN where it was not sent, or not answered.
      late_s: How long after a chunk was due this client got round to it, each.
      cpu_s, wall_s: This client's own, from the first chunk to the last answer.
      beside_unread_bytes: Answers that have come for the session beside, and that it has not read.
      kept: Messages that `Kind.KEPT` and sampling kept.
      errors: Messages that were errors, and sessions that ended badly, the first few.
      failed: How many of these there were.
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
    """What came of a load.

    Attributes:
      latencies_ms: Of the chunks after the warm-up; infinite where no answer came.
      chunks: Answered, warm-up included.
      lost: Sent, or due, and not answered; warm-up included.
      wall_s: From the first chunk's being due to the last answer.
      server: What the server used in that time.
      idle_rss_bytes: Its resident memory when all sessions were open and none had sent a chunk.
      client_cpu_shares: CPU time over wall time of each client process: near 1, the client is the limit.
      client_late_p99_ms: How late the clients got round to chunks that were due.
      beside_unread_bytes, kept, errors, failed: As in `Report`, of all processes.
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
        """CPU time of the server over the chunks it answered."""
        return self.server.cpu_s / self.chunks * 1e6 if self.chunks else float("nan")


def outcome_of(load: Load, reports: list[Report], before: Usage, after: Usage) -> Outcome:
    """What all client processes saw, and what the server used between two looks at it."""
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
