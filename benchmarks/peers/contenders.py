"""Contenders: the servers and the in-process chains, each a row of a table."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

import attrs
import click

from benchmarks.load.pipelines import pipeline_script
from benchmarks.load.script import Script
from benchmarks.load.servers import HEADRACE
from benchmarks.load.workloads import workload
from benchmarks.peers import pipecat_frames
from benchmarks.report.machine import pin, split_cores
from protos import streaming_pb2 as streaming

__all__ = ["CHAINS", "MANIFESTS", "SERVERS", "Contender", "Stream", "run_chain"]

_SERVERS, _CHAINS = "benchmarks.peers.servers", "benchmarks.peers.chains"
_CHAIN_S = 120.0
MANIFESTS = {"echo": "passthrough", "vad": "vad", "speech": "speech"}
"""Work that others do by hand → workload that Headrace runs for it."""


@attrs.frozen
class Contender:
    """Program to measure.

    Attributes:
      peer: Name of its peer in the roster.
      module: Module to run, and its arguments; "{work}" stands for the work.
      lean: Ask Headrace for results without per-node figures, which no other contender has.
      websocket: Use Pipecat's protocol instead of ours.
    """

    peer: str
    module: tuple[str, ...]
    lean: bool = True
    websocket: bool = False

    def command(self, work: str) -> tuple[str, ...]:
        """Return the module and its arguments for this work."""
        return tuple(part.format(work=work) for part in self.module)


SERVERS: Mapping[str, Contender] = {
    "headrace": Contender("headrace", HEADRACE),
    "headrace, full results": Contender("headrace", HEADRACE, lean=False),
    "driver": Contender("driver", (f"{_SERVERS}.own_driver", "{work}")),
    "grpcio": Contender("grpcio", (f"{_SERVERS}.grpcio_aio", "{work}")),
    "purerpc": Contender("purerpc", (f"{_SERVERS}.stock_purerpc", "{work}")),
    "pipecat": Contender("pipecat", (f"{_SERVERS}.pipecat_websocket",), websocket=True),
}

CHAINS: Mapping[str, Contender] = {
    "headrace": Contender("headrace", (f"{_CHAINS}.headrace_session",)),
    "headrace, full results": Contender("headrace", (f"{_CHAINS}.headrace_session", "--full")),
    "trio": Contender("trio", (f"{_CHAINS}.trio_relay",)),
    "bytewax": Contender("bytewax", (f"{_CHAINS}.bytewax_flow",)),
    "mediapipe": Contender("mediapipe", (f"{_CHAINS}.mediapipe_graph",)),
    "mediapipe, its own threads": Contender("mediapipe", (f"{_CHAINS}.mediapipe_graph", "--threads")),
    "gstreamer": Contender("gstreamer", (f"{_CHAINS}.gstreamer_pipeline",)),
    "gstreamer, one thread": Contender("gstreamer", (f"{_CHAINS}.gstreamer_pipeline", "--one-thread")),
    "pipecat": Contender("pipecat", (f"{_CHAINS}.pipecat_pipeline",)),
    "pipecat, direct": Contender("pipecat", (f"{_CHAINS}.pipecat_pipeline", "--direct")),
    "pipecat, defaults": Contender("pipecat", (f"{_CHAINS}.pipecat_pipeline", "--defaults")),
}


@attrs.frozen
class Stream:
    """Audio that a session sends, mono i16, and the work done on it."""

    work: str
    sample_rate: int
    chunk_ms: float
    chunks: int

    def script(self, contender: Contender, *, sample_every: int = 0) -> Script:
        """Make the script of the session in the contender's protocol."""
        script = pipeline_script(
            workload(MANIFESTS[self.work]),
            chunk_ms=self.chunk_ms,
            chunks=self.chunks,
            sample_rate=self.sample_rate,
            lean=contender.lean,
            sample_every=sample_every,
        )
        if not contender.websocket:
            return script
        requests = (streaming.StreamRequest.FromString(chunk) for chunk in script.chunks)
        samples = tuple(request.audio_chunk.buffer.samples for request in requests)
        return pipecat_frames.speech_script(samples, self.sample_rate, sample_every)


def run_chain(name: str, python: str, mode: str, frames: int) -> dict[str, float]:
    """Run an in-process chain, on the core that servers are measured on.

    Raises:
      ClickException: the chain failed, or its output differs from its input.
    """
    module, *arguments = CHAINS[name].module
    command = [python, "-m", module, mode, str(frames), *arguments]
    cores = split_cores()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if cores is not None:
            pin(process.pid, cores[0])
        try:
            output, errors = process.communicate(timeout=_CHAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise click.ClickException(f"{name} did not end within {_CHAIN_S:g} s") from None
    if process.returncode:
        raise click.ClickException(f"{name}: {errors.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures
