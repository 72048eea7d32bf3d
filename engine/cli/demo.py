"""`headrace demo`: run a server, a client and a speech sample in one command."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import trio

from engine.cli.common.command import STREAM_EXITS, Command
from engine.cli.common.manifests import DATA, packaged_manifest, source_ids
from engine.cli.streaming.audio_files import open_audio
from engine.cli.streaming.drive import Interruption, run_command
from engine.cli.streaming.feeder import Pace
from engine.cli.streaming.job import Job
from engine.cli.streaming.sessions import AnySession
from engine.cli.streaming.stream_file import make_report, stream_file
from engine.limits import ResourceLimits, SessionOptions
from engine.serve.running import run_server
from engine.serve.settings import Settings
from transport.client import connect
from transport.grpc.addresses import TcpAddress
from transport.server import Server

__all__ = ["demo"]


@click.command(
    cls=Command,
    example="headrace demo --out-dir out",
    exits=STREAM_EXITS,
)
@click.option("--realtime/--fast", default=True, help="Send at a microphone's pace (10 s), or as fast as possible.")
@click.option("--chunk-ms", default=20.0, type=click.FloatRange(1, 10_000), help="Length of a chunk.")
@click.option(
    "--out-dir", type=click.Path(path_type=Path), help="Write the nodes' outputs here, as WAV and JSON lines."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line: ready, result, segment, error, …"
)
def demo(realtime: bool, chunk_ms: float, out_dir: Path | None, as_json: bool) -> None:
    """Watch speech stream through a pipeline. Nothing needs to be set up.

    Starts a server in this process on a free port, connects to it over gRPC, and streams a speech sample at 48 kHz. The
    pipeline resamples it to 16 kHz, finds and gates the speech, and measures the level. Client and server share this
    process, so the latencies include the work of both.
    """
    manifest = packaged_manifest("demo.json")
    job = Job(
        file=Path("speech.flac"),
        manifest=manifest,
        source=source_ids(manifest)[0],
        pace=Pace(chunk_ms, realtime, "i16"),
        limits=ResourceLimits(),
        options=SessionOptions(),
        out_dir=out_dir,
        as_json=as_json,
    )
    with (DATA / "speech.flac").open("rb") as sample, open_audio(sample, "speech.flac") as audio:
        report = make_report(job, audio, "server")

        @asynccontextmanager
        async def open_served() -> AsyncIterator[AnySession]:
            async with (
                _serving() as server,
                connect(f"127.0.0.1:{server.port}") as client,
                client.stream(job.manifest) as session,
            ):
                yield session

        async def body(interruption: Interruption) -> int:
            return await stream_file(job, audio, open_served, report, interruption)

        sys.exit(run_command(body, report))


@asynccontextmanager
async def _serving() -> AsyncIterator[Server]:
    """Run a server on a free port of the loopback interface while the block runs."""
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(run_server, Settings(listen=(TcpAddress("127.0.0.1", 0),)))
        yield server
        nursery.cancel_scope.cancel()
