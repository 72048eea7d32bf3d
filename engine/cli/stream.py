"""`headrace stream`: stream a file through a pipeline on a server."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from engine.cli.common.command import STREAM_EXITS, Command
from engine.cli.common.server import make_target
from engine.cli.common.server_options import DEFAULT_ADDRESS, SERVER_OPTIONS, server_options
from engine.cli.streaming.job import job_options, make_job
from engine.cli.streaming.sessions import AnySession
from engine.cli.streaming.stream_file import stream_job

__all__ = ["stream"]


@click.command(
    cls=Command,
    example="headrace stream talk.wav --manifest pipeline.json --realtime",
    exits=STREAM_EXITS,
)
@click.option(
    "--address", default=DEFAULT_ADDRESS, metavar="ADDRESS", help="Address of the server: HOST:PORT or unix:PATH."
)
@server_options
@job_options
def stream(address: str, **chosen: Any) -> None:
    """Stream an audio FILE through a pipeline on a server.

    Shows speech as it is found, the latency of the chunks, the time that each node took, and the ledger, which accounts
    for every chunk. FILE can be of any format that libsndfile reads: WAV, FLAC, MP3, Ogg, AIFF and more. Ctrl-C cancels
    the session and shows the summary so far.
    """
    where = make_target(address, **{name: chosen.pop(name) for name in SERVER_OPTIONS})
    job = make_job(**chosen)

    @asynccontextmanager
    async def open_remote() -> AsyncIterator[AnySession]:
        async with (
            where.connect() as client,
            client.stream(job.manifest, limits=job.limits, options=job.options) as session,
        ):
            yield session

    sys.exit(stream_job(job, open_remote, "server"))
