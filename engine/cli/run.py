"""`headrace run`: run a file through a pipeline in this process, without a server."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from engine.cli.common.command import STREAM_EXITS, Command
from engine.cli.common.node_options import registry_options
from engine.cli.streaming.job import job_options, make_job
from engine.cli.streaming.sessions import AnySession, LocalSession
from engine.cli.streaming.stream_file import stream_job
from engine.manifest.plan import Registry
from engine.session import open_session

__all__ = ["run"]


@click.command(
    cls=Command,
    example="headrace run talk.flac --manifest pipeline.json --out-dir out",
    exits=STREAM_EXITS,
)
@job_options
@registry_options
def run(registry: Registry, **chosen: Any) -> None:
    """Run an audio FILE through a pipeline in this process, without a server.

    Does the same as `headrace stream` without the network: the session, its options, outputs and report are the same.
    """
    job = make_job(registry, **chosen)

    @asynccontextmanager
    async def open_local() -> AsyncIterator[AnySession]:
        async with open_session(job.manifest, registry=registry, limits=job.limits, options=job.options) as session:
            yield LocalSession(session)

    sys.exit(stream_job(job, open_local, "engine"))
