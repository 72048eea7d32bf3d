"""Whether a node holds more and more: its example runs through the engine for an hour of audio.

Each in a process of its own. The audio is something like speech, mono i16 at 16 kHz, in chunks of a second, as fast as
they are answered. What the whole process has resident, the C libraries' memory with it, is looked at after every minute
of audio: the most in the second tenth of the time, when all has settled, against the most in the last tenth.
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
    "RSS is of the process with the whole pipeline of the node's example: the most in the second tenth of the time, and"
    " in the last. Accounted is the most that the session held by its own account."
)


def endure(node_type: str, minutes: int) -> dict[str, float]:
    """Run a node's example over so many minutes of audio, at least ten, in this process."""
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
    """Send it second by second, each when the result of the last has come."""
    for second in range(60):
        block = Audio(minute[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE], SAMPLE_RATE)
        for source in session.source_ids:
            await session.send(Chunk(block, 60 * number + second, source))
        await _result(session)


async def _result(session: Session) -> None:
    """Wait for the next one.

    Raises:
      EngineError: there is none, for the session has failed, or a node has refused the chunk.
    """
    event: Event | None
    while not isinstance(event := await session.receive(), Result):
        if not isinstance(event, SessionMetrics):
            raise session.failure or event or AssertionError("the session ended without a reason")


def _rows(names: Sequence[str], minutes: int) -> list[Mapping[str, Any]]:
    """Of each node, one after another, in a process that has run nothing else."""
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
@click.option("--minutes", default=60, type=click.IntRange(10), help="Audio that each node gets.")
@report_options
def endurance(names: tuple[str, ...], minutes: int, as_json: bool, out: Path | None) -> None:
    """Resident memory of a process in which a NODE (each, if none is named) works through an hour of audio."""
    if unknown := set(names) - set(BUILTIN):
        raise click.UsageError(f"no node types: {', '.join(sorted(unknown))}")
    rows = _rows(names or list(BUILTIN), minutes)
    publish(Report("endurance", [Table(f"{SAMPLE_RATE} Hz, chunks of 1 s", COLUMNS, rows)], [_NOTE]), as_json, out)
