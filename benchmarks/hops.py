"""Cost of a hop through the engine, in process, compared with the same graph of bare trio tasks and channels.

A hop is a packet's way to the next task, or into or out of the graph: one for each edge, one into the source and one
out of each sink; feeding and draining are included on both sides. Engine and relay take turns, so that other work on
the machine affects both.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time

import attrs
import click
import numpy as np
import trio

from benchmarks.load.figures import spread
from benchmarks.load.options import numbers_option
from benchmarks.load.run import run_trio
from benchmarks.load.trio_baseline import open_relay
from benchmarks.load.workloads import branches
from benchmarks.report.progress import Advance, progress
from benchmarks.report.report import Report, Table, publish, report_options
from engine.errors import EngineError
from engine.limits import SessionOptions
from engine.manifest import Manifest
from engine.messages import Chunk, Result
from engine.session import Session, open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN

__all__ = ["engine"]

COLUMNS = {
    "graph": "graph",
    "nodes": "nodes",
    "edges": "edges",
    "engine_cpu_us": "engine CPU us/hop",
    "relay_cpu_us": "relay CPU us/hop",
    "ratio": "ratio",
    "ratio_low": "lowest",
    "ratio_high": "highest",
    "engine_rows_per_s": "engine rows/s",
    "relay_rows_per_s": "relay rows/s",
    "engine_p50_us": "engine p50 us",
    "relay_p50_us": "relay p50 us",
}
_NOTE = (
    "CPU per hop and rows per second: saturated. p50: one row at a time, from send to receipt, through the whole"
    " graph. Medians of the rounds; the ratio of CPU is taken in each round."
)

_Step = Callable[[], Awaitable[object]]


@attrs.frozen
class _Turn:
    """Round of one side: CPU and wall seconds per row when saturated, and p50 with one row at a time."""

    cpu_s: float
    wall_s: float
    p50_s: float


async def _measure(send: _Step, receive: _Step, rows: int) -> _Turn:
    await _saturate(send, receive, rows // 10 + 1)
    gc.collect()
    cpu, wall = process_time(), perf_counter()
    await _saturate(send, receive, rows)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    times = []
    for _ in range(rows // 10 + 1):
        began = perf_counter()
        await send()
        await receive()
        times.append(perf_counter() - began)
    return _Turn(cpu / rows, wall / rows, float(np.median(times)))


async def _saturate(send: _Step, receive: _Step, rows: int) -> None:
    async def feed() -> None:
        for _ in range(rows):
            await send()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        for _ in range(rows):
            await receive()


class _Ends:
    """Both ends of a session, with the interface of the relay."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audio = Audio(np.zeros((320, 1), np.int16), 16_000)
        self._sequence = 0

    async def send(self) -> None:
        await self._session.send(Chunk(self._audio, self._sequence))
        self._sequence += 1

    async def receive(self) -> None:
        while not isinstance(event := await self._session.receive(), Result):
            if isinstance(event, EngineError):
                raise event


async def _engine_turn(manifest: Manifest, rows: int) -> _Turn:
    async with open_session(manifest, registry=BUILTIN, options=SessionOptions(lean=True)) as session:
        ends = _Ends(session)
        return await _measure(ends.send, ends.receive, rows)


async def _relay_turn(manifest: Manifest, rows: int) -> _Turn:
    packet = object()
    async with open_relay(manifest) as relay:
        return await _measure(lambda: relay.send(packet), relay.receive, rows)


def _compare(manifest: Manifest, rows: int, rounds: int, advance: Advance) -> dict[str, float]:
    engine, relay = [], []
    for _ in range(rounds):
        engine.append(run_trio(_engine_turn, manifest, rows))
        relay.append(run_trio(_relay_turn, manifest, rows))
        advance(1)
    sources = {edge.source for edge in manifest.connections}
    hops = len(manifest.connections) + 1 + sum(node.id not in sources for node in manifest.nodes)
    ratio, low, high = spread([ours.cpu_s / bare.cpu_s for ours, bare in zip(engine, relay, strict=True)])
    figures = {
        "nodes": len(manifest.nodes),
        "edges": len(manifest.connections),
        "hops": hops,
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
    }
    for name, turns in (("engine", engine), ("relay", relay)):
        figures[f"{name}_cpu_us"] = spread([turn.cpu_s for turn in turns])[0] / hops * 1e6
        figures[f"{name}_wall_us"] = spread([turn.wall_s for turn in turns])[0] / hops * 1e6
        figures[f"{name}_rows_per_s"] = 1 / spread([turn.wall_s for turn in turns])[0]
        figures[f"{name}_p50_us"] = spread([turn.p50_s for turn in turns])[0] * 1e6
    return figures


@click.command(context_settings={"show_default": True})
@numbers_option("--depths", "1,5,20", "Numbers of nodes in a chain.")
@numbers_option("--fan-outs", "4,16", "Numbers of nodes that one node feeds, with and without a node that joins them.")
@click.option("--rows", default=5000, type=click.IntRange(10), help="Chunks in a round.")
@click.option("--rounds", default=7, type=click.IntRange(1), help="Rounds of each side.")
@report_options
def engine(
    depths: tuple[int, ...], fan_outs: tuple[int, ...], rows: int, rounds: int, as_json: bool, out: Path | None
) -> None:
    """Measure the cost of a hop inside the engine, against bare trio tasks and channels in the same run."""
    graphs = {f"chain of {depth}": branches(depth, 1) for depth in depths}
    for fan_out in fan_outs:
        graphs[f"1 to {fan_out}"] = branches(2, fan_out)
        graphs[f"1 to {fan_out} to 1"] = branches(2, fan_out, joined=True)
    found: list[dict[str, float | str]] = []
    with progress() as bars:
        for name, manifest in graphs.items():
            with bars.bar(name, rounds) as advance:
                found.append({"graph": name, **_compare(manifest, rows, rounds, advance)})
    publish(Report("engine", [Table("pass-through nodes, 20 ms chunks", COLUMNS, found)], [_NOTE]), as_json, out)
