"""Latency of each chunk over a real socket: from its send to its result's receipt, measured at the client.

The server is a process of its own, on a core of its own where there are two. At real pace the clock of a chunk starts
when the chunk was *due*, not when the client got round to sending it, so that a stall is charged to every chunk that
it delayed (this corrects for coordinated omission). Back to back, one chunk is under way in a session at a time, so
its clock starts at the send.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import attrs
import click
import numpy as np
import trio
import trio.testing
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from benchmarks.machine import describe, pin, split_cores
from benchmarks.workloads import WORKLOADS, speech_like, workload
from engine.errors import EngineError, leaves
from engine.limits import SessionOptions
from engine.manifest import Manifest
from engine.packet import Chunk, Result, SessionMetrics
from nodes.contract import Audio
from transport.client import Client, RemoteSession, RpcError, connect

__all__ = ["Load", "Measured", "latency", "measure"]

PERCENTILES = (50.0, 95.0, 99.0, 99.9)

_COUNTS = ("sessions", "chunks", "chunks_per_s", "server_cpu_us_per_chunk")
_TIMES = ("p50_ms", "p95_ms", "p99_ms", "p99.9_ms", "max_ms")


@attrs.frozen
class Load:
    """What clients do.

    Attributes:
      sessions: how many at once, spread evenly over `connections`.
      chunk_ms: length of a chunk.
      seconds: of audio that each session sends.
      paced: at real time; else the next chunk goes when the last one's result has come.
      sample_rate: of the audio, mono i16.
      lean: ask for results without per-node maps.
    """

    manifest: Manifest
    sessions: int
    connections: int
    chunk_ms: float
    seconds: float
    paced: bool
    sample_rate: int
    lean: bool


@attrs.define
class Measured:
    """What came of it: latencies in ms of all sessions together, and the server's CPU time and memory."""

    latencies: list[float] = attrs.field(factory=list)
    chunks: int = 0
    errors: int = 0
    lost: int = 0
    wall_s: float = 0.0
    server_cpu_s: float = 0.0
    server_rss_mb: float = 0.0
    server_p50_ms: list[float] = attrs.field(factory=list)

    def summary(self) -> dict[str, float]:
        """The figures of the table."""
        values = np.array(self.latencies) if self.latencies else np.zeros(1)
        named = {f"p{share:g}_ms": float(np.percentile(values, share)) for share in PERCENTILES}
        return {
            "chunks": self.chunks,
            "errors": self.errors,
            "lost": self.lost,
            "min_ms": float(values.min()),
            **named,
            "max_ms": float(values.max()),
            "server_p50_ms": float(np.median(self.server_p50_ms)) if self.server_p50_ms else 0.0,
            "chunks_per_s": self.chunks / self.wall_s if self.wall_s else 0.0,
            "server_cpu_us_per_chunk": self.server_cpu_s / self.chunks * 1e6 if self.chunks else 0.0,
            "server_rss_mb": self.server_rss_mb,
        }


@contextmanager
def _server() -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address and process id."""
    command = [sys.executable, "-m", "engine.serve", "--port", "0", "--log-level", "WARNING"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise click.ClickException(f"the server did not start: {line!r}")
        if (cores := split_cores()) is not None:
            pin(process.pid, cores[0])
            pin(0, cores[1])
        yield line.split()[-1], process.pid
    finally:
        process.terminate()
        process.wait(20)


def _cpu_seconds(process: int) -> float:
    """CPU time of all its threads so far; from the scheduler's own account, which is exact where ticks are not."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _rss_mb(process: int) -> float:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Session:
    """One session's sender and receiver."""

    def __init__(self, load: Load, chunks: list[Audio], measured: Measured, tick: trio.Event) -> None:
        self._load = load
        self._chunks = chunks
        self._measured = measured
        self._begin = tick
        self._due: dict[int, float] = {}
        self._answered = trio.Event()

    async def run(self, client: Client, offset: float, progress: Progress, bar: TaskID) -> None:
        options = SessionOptions(lean=self._load.lean)
        async with client.stream(self._load.manifest, options=options) as session:
            await self._begin.wait()
            if self._load.paced:
                await trio.sleep(offset)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, session)
                await self._receive(session, progress, bar)
        self._measured.lost += len(self._due)

    async def _send(self, session: RemoteSession) -> None:
        began = perf_counter()
        for sequence, audio in enumerate(self._chunks):
            if self._load.paced:
                due = began + sequence * self._load.chunk_ms / 1000
                await trio.sleep(max(0.0, due - perf_counter()))
            else:
                due = perf_counter()
                self._answered = trio.Event()
            self._due[sequence] = due
            await session.send(Chunk(audio, sequence))
            if not self._load.paced:
                await self._answered.wait()
        await session.close()

    async def _receive(self, session: RemoteSession, progress: Progress, bar: TaskID) -> None:
        async for event in session:
            now = perf_counter()
            if isinstance(event, EngineError):
                self._measured.errors += 1
            elif isinstance(event, SessionMetrics):
                if event.final:
                    self._measured.server_p50_ms.append(event.p50_latency_ms)
            elif isinstance(event, Result) and not event.flush and event.sequence is not None:
                self._measured.latencies.append((now - self._due.pop(event.sequence)) * 1e3)
                self._measured.chunks += 1
                self._answered.set()
                if event.sequence % 50 == 49:
                    progress.advance(bar, 50)


async def measure(load: Load, address: str, process: int, progress: Progress) -> Measured:
    """Run a load against a server."""
    measured = Measured()
    step = int(load.sample_rate * load.chunk_ms / 1000)
    audio = speech_like(load.seconds, load.sample_rate).frames
    chunks = [Audio(audio[at : at + step], load.sample_rate) for at in range(0, len(audio) - step + 1, step)]
    bar = progress.add_task(f"{load.sessions} sessions", total=load.sessions * len(chunks))
    begin = trio.Event()
    async with trio.open_nursery() as nursery:
        clients = [await nursery.start(_hold_client, address) for _ in range(load.connections)]
        async with trio.open_nursery() as running:
            for i in range(load.sessions):
                offset = i / load.sessions * load.chunk_ms / 1000
                session = _Session(load, chunks, measured, begin)
                running.start_soon(session.run, clients[i % len(clients)], offset, progress, bar)
            await trio.testing.wait_all_tasks_blocked(0.2)
            cpu, began = _cpu_seconds(process), perf_counter()
            begin.set()
        measured.wall_s = perf_counter() - began
        measured.server_cpu_s = _cpu_seconds(process) - cpu
        measured.server_rss_mb = _rss_mb(process)
        nursery.cancel_scope.cancel()
    return measured


def _run(load: Load, address: str, process: int, progress: Progress) -> Measured:
    failures: list[BaseException] = []
    try:
        return trio.run(measure, load, address, process, progress)
    except* (EngineError, RpcError) as group:
        failures.extend(leaves(group))
    raise click.ClickException(str(failures[0]))


async def _hold_client(address: str, task_status: trio.TaskStatus[Client] = trio.TASK_STATUS_IGNORED) -> None:
    async with connect(address) as client:
        task_status.started(client)
        await trio.sleep_forever()


def _table(rows: list[dict[str, float]], title: str) -> Table:
    table = Table(title=title)
    for column in (*_COUNTS, *_TIMES):
        table.add_column(column.replace("_", " ").replace("server cpu us per chunk", "cpu us/chunk"), justify="right")
    for row in rows:
        table.add_row(*(f"{row[name]:.0f}" for name in _COUNTS), *(f"{row[name]:.2f}" for name in _TIMES))
    return table


@click.command(context_settings={"show_default": True})
@click.option("--manifest", default="speech", help=f"A JSON file, or one of {', '.join(WORKLOADS)}.")
@click.option("--sessions", default="1,10,50", help="Numbers of sessions, one run for each.")
@click.option("--connections", default=4, type=click.IntRange(1), help="Connections that sessions share.")
@click.option("--chunk-ms", default=20.0, type=click.FloatRange(1, 10_000), help="Length of a chunk.")
@click.option("--seconds", default=10.0, type=click.FloatRange(0.1), help="Audio that each session sends.")
@click.option("--pace", default="real", type=click.Choice(["real", "back-to-back"]), help="How chunks follow.")
@click.option("--sample-rate", default=48_000, type=click.IntRange(1000, 192_000), help="Of what is sent, Hz.")
@click.option("--lean", is_flag=True, help="Results without per-node maps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def latency(
    manifest: str,
    sessions: str,
    connections: int,
    chunk_ms: float,
    seconds: float,
    pace: str,
    sample_rate: int,
    lean: bool,
    as_json: bool,
) -> None:
    """Latency per chunk, over a real socket, of one to many sessions."""
    try:
        plan = workload(manifest)
        counts = [int(each) for each in sessions.split(",")]
    except (OSError, EngineError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if min(counts) < 1:
        raise click.UsageError("--sessions must be positive numbers, such as 1,10,50")
    rows: list[dict[str, float]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for count in counts:
            load = Load(plan, count, min(connections, count), chunk_ms, seconds, pace == "real", sample_rate, lean)
            with _server() as (address, process):
                measured = _run(load, address, process, progress)
            rows.append({"sessions": count, **measured.summary()})
    if as_json:
        print(
            json.dumps({"machine": describe(), "manifest": manifest, "chunk_ms": chunk_ms, "pace": pace, "runs": rows})
        )
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(", ".join(f"{name} {value}" for name, value in describe().items()))
    console.print(_table(rows, f"{manifest}, {chunk_ms:g} ms chunks, pace {pace}"))
