"""Memory growth of a node: its example runs through the engine for an hour of audio.

Each node runs in its own process. The audio is speech-like, mono i16 at 16 kHz, in chunks of a second, sent as fast as
they are answered. The resident memory of the whole process, which includes that of C libraries, is sampled after every
minute of audio. The maximum of the second tenth of the time, when memory has settled, is compared with the maximum of
the last tenth.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import click
import soundfile
import trio

from benchmarks.load.workloads import speech_like
from benchmarks.report.machine import usage
from benchmarks.report.progress import progress
from benchmarks.report.report import Report, Table, publish, report_options
from engine.catalogue.examples import example_path
from engine.limits import ResourceLimits
from engine.manifest import Manifest, load_manifest
from engine.manifest.plan import Registry
from engine.messages import Chunk, Result, SessionMetrics
from engine.session import Event, Session, open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN, with_directories

__all__ = ["endurance", "endure"]

SAMPLE_RATE = 16_000
COLUMNS = {
    "node": "node",
    "minutes": "minutes of audio",
    "cpu_s": "CPU s",
    "settled_mb": "RSS MB, settled",
    "last_mb": "RSS MB, last",
    "growth_mb": "growth MB",
    "held_kb": "most accounted kB",
}
_NOTE = (
    "RSS is that of the process that runs the whole pipeline of the node's example: the most in the second tenth of the"
    " time, and in the last. Accounted is the most memory that the session accounted for."
)


def endure(node_type: str, minutes: int) -> dict[str, float]:
    """Run a node's example over some minutes of audio, at least ten, in this process."""
    path = example_path(node_type, BUILTIN[node_type])
    assert path is not None
    with TemporaryDirectory() as name:
        directory = Path(name)
        soundfile.write(directory / "music.wav", speech_like(1.0, SAMPLE_RATE).frames, SAMPLE_RATE)
        registry = with_directories(recordings=directory, media=directory)
        return trio.run(_endure, load_manifest(path), registry, minutes)


async def _endure(manifest: Manifest, registry: Registry, minutes: int) -> dict[str, float]:
    minute = speech_like(60.0, SAMPLE_RATE).frames
    resident_mb: list[float] = []
    began_s = process_time()
    async with open_session(manifest, registry=registry, limits=ResourceLimits(max_timeout_ms=30_000)) as session:
        for number in range(minutes):
            await _send_minute(session, minute, number)
            resident_mb.append(usage(os.getpid()).rss_bytes / 1e6)
        held_bytes = session.metrics().peak_memory_bytes
    tenth = minutes // 10
    settled_mb, last_mb = max(resident_mb[tenth : 2 * tenth]), max(resident_mb[-tenth:])
    return {
        "minutes": minutes,
        "cpu_s": process_time() - began_s,
        "settled_mb": settled_mb,
        "last_mb": last_mb,
        "growth_mb": last_mb - settled_mb,
        "held_kb": held_bytes / 1e3,
    }


async def _send_minute(session: Session, minute: Any, number: int) -> None:
    """Send a minute of audio second by second, each after the result of the one before."""
    for second in range(60):
        block = Audio(minute[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE], SAMPLE_RATE)
        for source in session.source_ids:
            await session.send(Chunk(block, 60 * number + second, source))
        await _result(session)


async def _result(session: Session) -> None:
    """Wait for the next result.

    Raises:
      EngineError: the session failed, or a node rejected the chunk.
    """
    event: Event | None
    while not isinstance(event := await session.receive(), Result):
        if not isinstance(event, SessionMetrics):
            raise session.failure or event or AssertionError("the session ended without a reason")


def _rows(names: Sequence[str], minutes: int) -> list[Mapping[str, Any]]:
    """Run the nodes one after another, each in a process that has run nothing else; return a row for each."""
    context = multiprocessing.get_context("spawn")
    rows: list[Mapping[str, Any]] = []
    with progress() as bars, bars.bar("nodes", len(names)) as advance:
        for name in names:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                rows.append({"node": name, **pool.submit(endure, name, minutes).result()})
            advance(1)
    return rows


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, metavar="[NODE]...")
@click.option("--minutes", default=60, type=click.IntRange(10), help="Minutes of audio for each node.")
@report_options
def endurance(names: tuple[str, ...], minutes: int, as_json: bool, out: Path | None) -> None:
    """Measure the memory growth of a process in which each NODE (all, if none is named) processes an hour of audio."""
    if unknown := set(names) - set(BUILTIN):
        raise click.UsageError(f"unknown node types: {', '.join(sorted(unknown))}")
    rows = _rows(names or list(BUILTIN), minutes)
    publish(Report("endurance", [Table(f"{SAMPLE_RATE} Hz, chunks of 1 s", COLUMNS, rows)], [_NOTE]), as_json, out)
