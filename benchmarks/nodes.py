"""CPU time of each node for 20 ms of audio: its example runs through the engine, chunk by chunk.

The audio is speech-like, mono i16 at 16 kHz. The CPU time is that of the thread that the node runs in, so other work on
the machine matters little, and waiting does not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Any

import attrs
import click
import numpy as np
import soundfile
import trio
from rich.console import Console
from rich.table import Table

from benchmarks.load.workloads import speech_like
from benchmarks.report.machine import describe
from engine.catalogue.examples import example_path
from engine.errors import EngineError
from engine.manifest import Manifest, load_manifest
from engine.manifest.plan import Registry
from engine.messages import Chunk, Result
from engine.session import open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN, with_directories

__all__ = ["RESULTS", "Cost", "measure_node", "nodes"]

RESULTS = Path(__file__).parent / "results" / "nodes.json"
SAMPLE_RATE = 16_000
CHUNK_MS = 20
WARM_UP_CHUNKS = 50


@attrs.frozen
class Cost:
    """Cost of one node, with its example's parameters.

    Attributes:
      median_us: Median of the CPU time for a chunk.
      mean_us: Mean of the CPU time for a chunk: the relevant figure if some chunks cost much more than others.
      p99_us: 99th percentile of the CPU time for a chunk.
      delay_ms: Delay that the node states once it knows the sample rate.
      chunks: Number of measured chunks.
    """

    median_us: float
    mean_us: float
    p99_us: float
    delay_ms: float
    chunks: int


def measure_node(node_type: str, seconds: float) -> Cost:
    """Run a node's example over some seconds of audio, and measure the cost of a node of its type in it.

    Raises:
      click.ClickException: the node type has no example.
    """
    path = example_path(node_type, BUILTIN[node_type])
    if path is None:
        raise click.ClickException(f"{node_type} has no example to measure")
    with TemporaryDirectory() as name:
        directory = Path(name)
        soundfile.write(directory / "music.wav", speech_like(1.0, SAMPLE_RATE).frames, SAMPLE_RATE)
        registry = with_directories(recordings=directory, media=directory)
        return trio.run(_measure, load_manifest(path), registry, node_type, seconds)


async def _measure(manifest: Manifest, nodes: Registry, node_type: str, seconds: float) -> Cost:
    """Send one chunk after the other, each after the result of the one before."""
    clock = _Clock()
    registry = {**nodes, node_type: clock.timed(nodes[node_type])}
    measured_ids = [node.id for node in manifest.nodes if node.node_type == node_type]
    audio = speech_like(seconds + WARM_UP_CHUNKS * CHUNK_MS / 1000, SAMPLE_RATE).frames
    step = SAMPLE_RATE * CHUNK_MS // 1000
    costs_us: list[float] = []
    async with open_session(manifest, registry=registry) as session:
        (task,) = (task for task in session.pipeline.tasks if task.planned.id == measured_ids[0])
        for sequence, start in enumerate(range(0, len(audio), step)):
            clock.seconds = 0.0
            for source in session.source_ids:
                await session.send(Chunk(Audio(audio[start : start + step], SAMPLE_RATE), sequence, source))
            while not isinstance(event := await session.receive(), Result):
                if event is None or isinstance(event, EngineError):
                    raise session.failure or event or AssertionError("the session ended without a reason")
            costs_us.append(clock.seconds * 1e6 / len(measured_ids))
        delay_s = task.delay_s()
    measured = np.array(costs_us[WARM_UP_CHUNKS:])
    median, p99 = np.percentile(measured, [50, 99])
    return Cost(float(median), float(measured.mean()), float(p99), delay_s * 1e3, len(measured))


class _Clock:
    """Adds up the CPU time that all nodes of a class take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, node_class: type) -> type:
        """Make a subclass whose `process` is timed."""
        clock = self

        class Timed(node_class):  # type: ignore[misc]
            def process(self, item: Any) -> list[Any]:
                began = thread_time()
                made = list(super().process(item))
                clock.seconds += thread_time() - began
                return made

        return Timed


def _table(costs: Mapping[str, Cost]) -> Table:
    table = Table(title=f"CPU us for {CHUNK_MS} ms at {SAMPLE_RATE} Hz")
    for heading in ("node", "median", "mean", "p99", "delay ms"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for node_type, cost in costs.items():
        figures = (cost.median_us, cost.mean_us, cost.p99_us, cost.delay_ms)
        table.add_row(node_type, *(f"{figure:.1f}" for figure in figures))
    return table


def _written(costs: Mapping[str, Cost]) -> str:
    document: dict[str, Any] = {"machine": describe(), "sample_rate": SAMPLE_RATE, "chunk_ms": CHUNK_MS}
    document["nodes"] = {
        node_type: {name: round(value, 3) for name, value in attrs.asdict(cost).items()}
        for node_type, cost in sorted(costs.items())
    }
    return json.dumps(document, indent=2) + "\n"


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, metavar="[NODE]...")
@click.option("--seconds", default=10.0, type=click.FloatRange(0.1), help="Seconds of audio for each node.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="File for the figures.")
def nodes(names: tuple[str, ...], seconds: float, out: Path) -> None:
    """Measure the CPU time of each NODE (all, if none is named) for a chunk of 20 ms, with its example's parameters.

    If nodes are named, the figures of the others stay as they are.
    """
    if unknown := set(names) - set(BUILTIN):
        raise click.UsageError(f"unknown node types: {', '.join(sorted(unknown))}")
    kept = json.loads(out.read_text())["nodes"] if names and out.exists() else {}
    costs = {node_type: Cost(**cost) for node_type, cost in kept.items()}
    costs |= {node_type: measure_node(node_type, seconds) for node_type in names or BUILTIN}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_written(costs), encoding="utf-8")
    Console().print(_table(costs))
