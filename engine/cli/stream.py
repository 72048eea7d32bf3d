"""`headrace stream`: a file to a server."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from engine.cli.commands import STREAM_EXITS, Command
from engine.cli.failures import BadInput
from engine.cli.options import job_options, make_job
from engine.cli.sessions import AnySession
from engine.cli.streaming import stream_job
from transport.client import connect
from transport.dial import parse_target

__all__ = ["DEFAULT_ADDRESS", "check_address", "stream"]

DEFAULT_ADDRESS = "127.0.0.1:50051"


def check_address(address: str) -> str:
    """The address, if it is one.

    Raises:
      BadInput: it is neither HOST:PORT nor unix:PATH.
    """
    try:
        parse_target(address)
    except ValueError as error:
        raise BadInput(str(error)) from None
    return address


@click.command(
    cls=Command,
    short_help="Stream a file to a server.",
    example="headrace stream talk.wav --manifest pipeline.json --realtime",
    exits=STREAM_EXITS,
)
@click.option("--address", default=DEFAULT_ADDRESS, metavar="HOST:PORT", help="The server.")
@job_options
def stream(address: str, **chosen: Any) -> None:
    """Stream an audio FILE through a pipeline on a server.

    Shows speech as it is found, the latency of the chunks, what each node cost, and the account of every chunk. Any
    file that libsndfile reads will do: WAV, FLAC, MP3, Ogg, AIFF and more. Ctrl-C ends the session and shows what came
    until then.
    """
    check_address(address)
    job = make_job(**chosen)

    @asynccontextmanager
    async def open_remote() -> AsyncIterator[AnySession]:
        async with (
            connect(address) as client,
            client.stream(job.manifest, limits=job.limits, options=job.options) as session,
        ):
            yield session

    sys.exit(stream_job(job, open_remote, "server"))
