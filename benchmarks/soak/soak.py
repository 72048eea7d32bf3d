"""Soak test: minutes of good and bad clients against one server, whose resources must not grow.

After each phase all clients leave, so that tasks, file descriptors and objects of a server at rest are compared with
those of the same server at rest before. Memory is sampled all the time, and its slope over the last third is judged.
Everything runs on the loopback interface, with a fixed number of good and of bad clients at a time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import combinations
from time import monotonic

import attrs
import click
import numpy as np
import trio
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from benchmarks.load.workloads import speech_like
from benchmarks.report.machine import describe, pin, split_cores
from benchmarks.soak.clients import KINDS, OTHERWISE, RATE, Good, Where
from benchmarks.soak.server import Look

__all__ = ["Phase", "rise_per_10_minutes", "soak", "verdicts"]

MAX_RISE = 0.01
JUDGED_FROM_MINUTES = 15.0  # the floors of a minute differ by 0.3 of 57 MB, so a shorter run's slope is noise
WARM_UP_S = 20.0
SESSION_S = 15.0
SETTLE_S = 30.0
SAMPLE_S = 1.0
WINDOWS = 6
FLOOR = 10.0  # percentile
LAST_REFERENCES = 10
"""Number of objects above the start that is not a leak: the last error's traceback or a parked frame refers to them."""


@attrs.frozen
class Crowd:
    """Numbers of clients at a time, and the kinds and seed of the bad ones."""

    good: int
    bad: int
    kinds: tuple[str, ...]
    seed: int


class _Server:
    """Process of the server, and the pipe for its state."""

    def __init__(self, process: trio.Process, where: Where) -> None:
        self.where = where
        self.process = process
        self._line = trio.Lock()

    async def look(self) -> Look:
        """Ask the server for its state."""
        assert self.process.stdin is not None
        async with self._line:
            with suppress(trio.BrokenResourceError):  # reading reports the end of the process
                await self.process.stdin.send_all(b"\n")
            return Look(**json.loads(await _read_line(self.process)))

    @property
    def rss_bytes(self) -> int:
        """Resident memory, read from the system without disturbing the server."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def look_at_rest(self) -> Look:
        """Wait until all clients have left, but at most SETTLE_S, and ask for the state."""
        deadline = monotonic() + SETTLE_S
        while (look := await self.look()).connections or look.calls:
            if monotonic() > deadline:
                break
            await trio.sleep(0.5)
        await trio.sleep(1.0)
        return await self.look()


async def _read_line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        more = await process.stdout.receive_some(4096)
        if not more:
            raise click.ClickException(f"a process of the soak has ended, with exit code {await process.wait()}")
        line += more
    return line


@asynccontextmanager
async def _running() -> AsyncIterator[_Server]:
    command = [sys.executable, "-m", "benchmarks.soak.server"]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        line = (await _read_line(process)).decode()
        match = re.search(r"listening on (.+):(\d+)$", line.strip())
        if match is None:
            raise click.ClickException(f"the server did not start: {line!r}")
        if (cores := split_cores()) is not None:
            pin(process.pid, cores[0])
            pin(0, cores[1])
        yield _Server(process, Where(match[1], int(match[2])))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def _misbehaving(where: Where, crowd: Crowd, name: str) -> AsyncIterator[Counter[str]]:
    """Run bad clients in their own process while the block runs; the yielded counter is filled at its end."""
    done = Counter[str]()
    drawn = [where.host, str(where.port), str(crowd.bad), f"{crowd.seed} {name}", *crowd.kinds]
    command = [sys.executable, "-m", "benchmarks.soak.clients", "crowd", *drawn]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        await _read_line(process)
        yield done
        assert process.stdin is not None
        await process.stdin.aclose()
        done.update(json.loads(await _read_line(process)))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@attrs.define
class Phase:
    """Figures of a period with clients, and the state of the server at rest after it."""

    name: str
    look: Look
    latencies_ms: list[float] = attrs.field(factory=list)
    ledger: Counter[str] = attrs.field(factory=Counter)
    sessions: int = 0
    bad: Counter[str] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)

    def p(self, share: float) -> float:
        """Return a percentile of the good clients' latencies, in ms."""
        return float(np.percentile(self.latencies_ms, share)) if self.latencies_ms else 0.0


class _Soak:
    """Runs phases against one server, and samples its memory all the time."""

    def __init__(self, server: _Server, crowd: Crowd, progress: Progress, bar: TaskID) -> None:
        self._server = server
        self._crowd = crowd
        self._progress = progress
        self._bar = bar
        self._speech = speech_like(SESSION_S, RATE)
        self._began = monotonic()
        self.samples: list[tuple[float, int]] = []

    async def phase(self, name: str, seconds: float) -> Phase:
        """Run the clients for some seconds, wait until all have left, and take the state of the server."""
        stop = trio.Event()
        good = [Good(self._server.where, self._speech) for _ in range(self._crowd.good)]
        async with _misbehaving(self._server.where, self._crowd, name) as bad, trio.open_nursery() as nursery:
            for each in good:
                nursery.start_soon(each.run, stop)
            await self._watch(seconds)
            stop.set()
        phase = Phase(name, await self._server.look_at_rest(), bad=bad)
        for each in good:
            phase.latencies_ms += each.latencies_ms
            phase.ledger += each.ledger
            phase.sessions += each.sessions
            phase.failures += each.failures
        return phase

    async def _watch(self, seconds: float) -> None:
        end = monotonic() + seconds
        while (now := monotonic()) < end and self._server.process.poll() is None:
            self.samples.append((now - self._began, self._server.rss_bytes))
            self._progress.advance(self._bar, SAMPLE_S)
            await trio.sleep(min(SAMPLE_S, end - now))


def rise_per_10_minutes(samples: Sequence[tuple[float, int]]) -> float:
    """Return the growth of memory in 10 minutes, as a share, over the last third of the samples.

    Large messages come and go, so a line through all samples would depend on chance. Instead, the floors of windows
    (the memory held when little is under way) are compared, each with each, and the median of their slopes is returned
    (the Theil-Sen estimator).

    Args:
      samples: (seconds, bytes), at even steps.
    """
    last = np.array(samples[-(len(samples) // 3) :], dtype=float)
    windows = np.array_split(last, WINDOWS)
    points = [
        (float(window[:, 0].mean()), float(np.percentile(window[:, 1], FLOOR))) for window in windows if len(window)
    ]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2)]
    return float(np.median(slopes) * 600 / np.percentile(last[:, 1], FLOOR)) if slopes else 0.0


def verdicts(phases: Sequence[Phase], rise: float | None) -> list[str]:
    """Return a text for each fault found. `rise` is None if the run was too short to judge it."""
    start, found = phases[0].look, []
    for phase in phases[1:]:
        for name in ("tasks", "fds", "connections", "calls", "sessions", "large_message_bytes"):
            before, after = getattr(start, name), getattr(phase.look, name)
            if before != after:
                found.append(f"{name} at the {phase.name}: {after}, at the start: {before}")
        for kind, count in phase.look.objects.items():
            if count > start.objects[kind] + LAST_REFERENCES:
                found.append(f"{kind} objects at the {phase.name}: {count}, at the start: {start.objects[kind]}")
    if rise is not None and rise >= MAX_RISE:
        found.append(f"memory rises by {rise:.2%} in 10 minutes")
    for phase in phases:
        found += [f"a good client, {phase.name}: {failure}" for failure in phase.failures[:5]]
    return found


async def _run(minutes: float, crowd: Crowd, progress: Progress) -> tuple[list[Phase], list[tuple[float, int]]]:
    half_s = minutes * 30
    bar = progress.add_task("warming up", total=WARM_UP_S + 2 * half_s)
    async with _running() as server:
        soaked = _Soak(server, crowd, progress, bar)
        phases = [await soaked.phase("start", WARM_UP_S)]
        soaked.samples.clear()
        for name in ("middle", "end"):
            progress.update(bar, description=f"to the {name}")
            phases.append(await soaked.phase(name, half_s))
        return phases, soaked.samples


def _table(phases: Sequence[Phase]) -> Table:
    table = Table()
    table.add_column("")
    for phase in phases:
        table.add_column(phase.name, justify="right")
    rows: dict[str, list[str]] = {
        "RSS, MB": [f"{phase.look.rss_bytes / 1e6:.1f}" for phase in phases],
        "file descriptors": [str(phase.look.fds) for phase in phases],
        "tasks": [str(phase.look.tasks) for phase in phases],
        "connections, calls": [f"{phase.look.connections}, {phase.look.calls}" for phase in phases],
        "sessions' objects": [str(sum(phase.look.objects.values())) for phase in phases],
        "good clients' p50, ms": [f"{phase.p(50):.1f}" for phase in phases],
        "good clients' p99, ms": [f"{phase.p(99):.1f}" for phase in phases],
        "good clients' sessions": [str(phase.sessions) for phase in phases],
        "bad clients": [str(phase.bad.total() - phase.bad[OTHERWISE]) for phase in phases],
    }
    for name in ("received", "accepted", "refused", "delivered", "rejected", "dropped", "cancelled", "missing"):
        rows[f"ledger: {name}"] = [str(phase.ledger[name]) for phase in phases]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _as_json(
    phases: Sequence[Phase], rise: float, found: list[str], minutes: float, samples: Sequence[tuple[float, int]]
) -> str:
    figures = [
        {
            "phase": phase.name,
            **attrs.asdict(phase.look),
            "p50_ms": phase.p(50),
            "p99_ms": phase.p(99),
            "sessions_of_neighbours": phase.sessions,
            "ledger": dict(phase.ledger),
            "bad": dict(phase.bad),
        }
        for phase in phases
    ]
    about = {"machine": describe(), "minutes": minutes, "rise_per_10_minutes": rise, "faults": found}
    rss = [[round(second, 1), rss_bytes] for second, rss_bytes in samples]
    return json.dumps({**about, "phases": figures, "rss_bytes": rss})


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=20.0, type=click.FloatRange(0.1), help="Minutes of the soak, without the warm-up.")
@click.option("--good", default=4, type=click.IntRange(1, 50), help="Good clients at a time, whose latency counts.")
@click.option("--bad", default=8, type=click.IntRange(0, 50), help="Bad clients at a time.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this kind of bad clients; repeatable."
)
@click.option("--seed", default=1, help="Random seed of the bad clients.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def soak(minutes: float, good: int, bad: int, kinds: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Run good and bad clients against one server for minutes, and report leaks.

    Exits with 1 if tasks, file descriptors or objects at rest differ from those at the start, if memory rises by 1 % or
    more in 10 minutes over the last third (of at least 15 minutes), or if a good client was served badly.
    """
    with Progress(console=Console(stderr=True), transient=True) as progress:
        phases, samples = trio.run(_run, minutes, Crowd(good, bad, kinds or tuple(KINDS), seed), progress)
    rise = rise_per_10_minutes(samples)
    found = verdicts(phases, rise if minutes >= JUDGED_FROM_MINUTES else None)
    if as_json:
        print(_as_json(phases, rise, found, minutes, samples))
    else:
        console = Console(width=None if sys.stdout.isatty() else 110)
        console.print(", ".join(f"{name} {value}" for name, value in describe().items()))
        console.print(_table(phases))
        judged = "" if minutes >= JUDGED_FROM_MINUTES else " (not judged: the run was too short)"
        console.print(f"memory over the last third: {rise:+.2%} in 10 minutes{judged}")
        console.print("bad clients:", ", ".join(f"{count} {name}" for name, count in _all_bad(phases)))
        for fault in found:
            console.print(f"[red]{fault}[/red]")
    sys.exit(1 if found else 0)


def _all_bad(phases: Sequence[Phase]) -> list[tuple[str, int]]:
    total: Counter[str] = Counter()
    for phase in phases:
        total += phase.bad
    return sorted(total.items())
