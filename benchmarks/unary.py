"""Unary call for a whole buffer, 44.1 to 16 kHz: against the same work in process, and its share of serialization."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import click
import numpy as np
import trio

from benchmarks.load.figures import latency_figures
from benchmarks.load.options import numbers_option
from benchmarks.load.run import run_trio
from benchmarks.load.servers import running_server
from benchmarks.load.workloads import speech_like
from benchmarks.report.machine import on_client_cores
from benchmarks.report.progress import Advance, progress
from benchmarks.report.report import Report, Table, publish, report_options
from engine.limits import ResourceLimits
from engine.manifest import manifest_from_dict
from engine.messages import Result
from engine.runtime.engine import Engine
from engine.session.oneshot import execute
from nodes.audio_resample import AudioResample
from nodes.contract import Audio
from nodes.registry import BUILTIN
from protos import execution_pb2 as execution
from transport.client import Client, connect
from transport.codec.audio import decode_audio
from transport.codec.requests import decode_manifest, encode_execute_request, parse
from transport.codec.results import encode_execute_response

__all__ = ["unary"]

RATE, TARGET = 44_100, 16_000
MANIFEST = manifest_from_dict(
    {
        "version": "v1",
        "nodes": [{"id": "resample", "node_type": "AudioResample", "params": {"target_sample_rate": TARGET}}],
    }
)
WARM_UP = 5
COLUMNS = {
    "seconds": "audio s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "engine_p50_ms": "in process p50 ms",
    "node_p50_ms": "bare node p50 ms",
    "p50_ratio": "p50 / bare node's",
    "within_twice_percent": "within 2 x bare node %",
    "reported_percent": "serialization, reported %",
    "measured_percent": "measured %",
}
_NOTE = (
    "In process: the engine without the wire. Bare node: its process and finish, called as functions. Within 2 x: calls"
    " that took less than twice the bare node's median. Serialization is a share of the call: as the service reports"
    " it, and as the same codec calls take here, the response's final encoding included."
)


class _Times:
    """Times, in seconds, of each way to do the same work, one call at a time and in turns."""

    def __init__(self) -> None:
        self.remote: list[float] = []
        self.engine: list[float] = []
        self.node: list[float] = []
        self.codec: list[float] = []
        self.reported: list[float] = []

    async def take(self, client: Client, engine: Engine, audio: Audio, request: bytes) -> None:
        """Do the work once in each way."""
        began = perf_counter()
        remote = await client.execute(MANIFEST, {"resample": audio})
        self.remote.append(perf_counter() - began)
        self.reported.append(remote.parse_ms / remote.wall_ms)
        began = perf_counter()
        local = await execute(MANIFEST, {"resample": audio}, {}, engine=engine)
        self.engine.append(perf_counter() - began)
        began = perf_counter()
        node = AudioResample(target_sample_rate=TARGET)
        [*node.process(audio), *node.finish()]
        self.node.append(perf_counter() - began)
        node.close()
        self.codec.append(_serialize(request, local))

    def row(self, seconds: float) -> dict[str, float]:
        """Return the row of the table."""
        node = float(np.median(self.node))
        remote = latency_figures(np.array(self.remote) * 1e3)
        return {
            "seconds": seconds,
            "calls": len(self.remote),
            **remote,
            "engine_p50_ms": float(np.median(self.engine)) * 1e3,
            "node_p50_ms": node * 1e3,
            "p50_ratio": remote["p50_ms"] / (node * 1e3),
            "within_twice_percent": float(np.mean(np.array(self.remote) < 2 * node)) * 100,
            "reported_percent": float(np.median(self.reported)) * 100,
            "measured_percent": float(np.median(self.codec) / np.median(self.remote)) * 100,
        }


def _serialize(request: bytes, result: Result) -> float:
    """Return the seconds for the server's work between bytes and the engine's types, both ways."""
    began = perf_counter()
    wire = parse(execution.ExecuteRequest(), request)
    decode_manifest(wire.manifest)
    for buffer in wire.audio_inputs.values():
        decode_audio(buffer)
    encode_execute_response(result).SerializeToString()
    return perf_counter() - began


async def _measure(address: str, seconds: float, calls: int, advance: Advance) -> dict[str, float]:
    audio = speech_like(seconds, RATE)
    request = encode_execute_request(MANIFEST, {"resample": audio}, {}, ResourceLimits())
    engine = Engine(BUILTIN)
    times = _Times()
    async with connect(address) as client, trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        for _ in range(WARM_UP):
            await _Times().take(client, engine, audio, request)
        for _ in range(calls):
            await times.take(client, engine, audio, request)
            advance(1)
        nursery.cancel_scope.cancel()
    return times.row(seconds)


@click.command(context_settings={"show_default": True})
@numbers_option("--seconds", "1,2,5,10", "Lengths of the audio.", kind=float)
@click.option("--calls", default=200, type=click.IntRange(1), help="Calls for each length, one at a time.")
@report_options
def unary(seconds: tuple[float, ...], calls: int, as_json: bool, out: Path | None) -> None:
    """Measure one call for a whole buffer, 44.1 to 16 kHz, against the same work in process."""
    rows = []
    with progress() as bars, on_client_cores(), running_server() as server:
        for length in seconds:
            with bars.bar(f"{length:g} s of audio", calls) as advance:
                rows.append(run_trio(_measure, f"{server.host}:{server.port}", length, calls, advance))
    publish(Report("unary", [Table("ExecutePipeline, AudioResample", COLUMNS, rows)], [_NOTE]), as_json, out)
