"""Search for the largest number of sessions for which p99 stays below a limit, by doubling and bisection.

Each number of sessions is tried until a majority of its runs agrees, so that one disturbance from outside decides
nothing. A run that fails while the client was busy or late, or while other work had the server's core, says nothing
about the server; the report says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import click

from benchmarks.load.figures import summarize
from benchmarks.load.options import Streamed, streamed_options
from benchmarks.load.run import run_load
from benchmarks.load.script import Load, Outcome
from benchmarks.report.progress import progress
from benchmarks.report.report import Report, Table, publish, report_options

__all__ = ["CAPACITY_COLUMNS", "Capacity", "capacity", "find_capacity", "largest"]

CLIENT_BUSY_PERCENT = 90
SERVER_WAITED_PERCENT = 10
CLIENT_LATE = 0.25  # as a share of the limit
CAPACITY_COLUMNS = {
    "sessions": "sessions",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "lost": "lost",
    "errors": "errors",
    "server_cpu_us_per_chunk": "server us/chunk",
    "server_busy_percent": "server busy %",
    "server_waited_percent": "server waited %",
    "client_busy_percent": "client busy %",
    "client_late_p99_ms": "client late p99 ms",
    "passed": "p99 in time",
    "limit": "limit",
}


@attrs.define
class Capacity:
    """Result of the search.

    Attributes:
      sessions: The largest number that passed; 0 if none did.
      limit: Reason why the next larger number failed: "server", "client" or "machine"; "none" if none failed.
      rows: Figures of every run, in order.
    """

    sessions: int = 0
    limit: str = "none"
    rows: list[dict[str, float | str]] = attrs.field(factory=list)


def largest(passes: Callable[[int], bool], start: int, most: int, resolution: float) -> tuple[int, int | None]:
    """Find the largest number that passes, provided that all numbers below it pass too.

    Args:
      passes: Predicate, called at most once for each number.
      start: First number to try; it is doubled while it passes.
      most: Largest number to try.
      resolution: Largest distance between the answer and the next failure, as a share of the answer.

    Returns:
      The largest number that passed, 0 if none did; and the smallest that failed, None if none did.
    """
    low, high = 0, min(start, most)
    while passes(high):
        low = high
        if low == most:
            return low, None
        high = min(2 * high, most)
    while high - low > max(1, low * resolution):
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low, high


def find_capacity(
    run: Callable[[int], Outcome],
    *,
    limit_ms: float,
    start: int = 8,
    most: int = 2000,
    resolution: float = 0.05,
    repeats: int = 3,
) -> Capacity:
    """Find the number of sessions that a server serves in time.

    Args:
      run: Runs a load with this number of sessions.
      limit_ms: Upper limit of p99.
      start: First number to try.
      most: Largest number to try.
      resolution: Precision, as a share of the answer.
      repeats: Number of runs for each number of sessions; their majority decides.
    """
    found = Capacity()
    reasons: dict[int, str] = {}

    def passes(sessions: int) -> bool:
        votes = {True: 0, False: 0}
        while max(votes.values()) <= repeats // 2:
            figures = summarize(run(sessions))
            passed = figures["p99_ms"] < limit_ms and not figures["lost"] and not figures["errors"]
            votes[passed] += 1
            limit = "" if passed else _limit(figures, limit_ms)
            reasons[sessions] = limit or reasons.get(sessions, "")
            found.rows.append({"sessions": sessions, **figures, "passed": "yes" if passed else "no", "limit": limit})
        return votes[True] > votes[False]

    found.sessions, failed = largest(passes, start, most, resolution)
    if failed is not None:
        found.limit = reasons[failed]
    return found


def _limit(figures: dict[str, float], limit_ms: float) -> str:
    if figures["server_waited_percent"] > SERVER_WAITED_PERCENT:
        return "machine"
    late = figures["client_late_p99_ms"] > CLIENT_LATE * limit_ms
    return "client" if late or figures["client_busy_percent"] > CLIENT_BUSY_PERCENT else "server"


@click.command(context_settings={"show_default": True})
@streamed_options(seconds=5.0)
@click.option("--start", default=8, type=click.IntRange(1), help="First number of sessions to try.")
@click.option("--most", default=2000, type=click.IntRange(1), help="Largest number of sessions to try.")
@click.option("--resolution", default=0.05, type=click.FloatRange(0, 1), help="Precision, as a share.")
@click.option("--repeats", default=3, type=click.IntRange(1), help="Runs for each number; their majority decides.")
@click.option("--limit-ms", type=click.FloatRange(0), help="Upper limit of p99.  [default: a chunk's length]")
@report_options
def capacity(
    streamed: Streamed,
    start: int,
    most: int,
    resolution: float,
    repeats: int,
    limit_ms: float | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the largest number of sessions at real pace for which p99 stays below the chunk length."""
    limit_ms = limit_ms or streamed.chunk_ms
    script = streamed.script()
    warm_up = min(len(script.chunks) // 5, 50)
    with progress() as bars:
        found = find_capacity(
            lambda sessions: run_load(
                Load(script=script, sessions=sessions, period_s=streamed.period_s, warm_up=warm_up), bars
            ),
            limit_ms=limit_ms,
            start=start,
            most=most,
            resolution=resolution,
            repeats=repeats,
        )
    title = f"{streamed}: {found.sessions} sessions with p99 < {limit_ms:g} ms"
    publish(Report("capacity", [Table(title, CAPACITY_COLUMNS, found.rows)], [_note(found)]), as_json, out)


def _note(found: Capacity) -> str:
    match found.limit:
        case "machine":
            return "A larger number failed while other work had the server's core: the server may serve more."
        case "client":
            return "A larger number failed because the client was busy or late: the server may serve more."
        case "server":
            return "A larger number failed because of the server: the client was neither busy nor late."
        case _:
            return "No number of sessions failed: the server may serve more."
