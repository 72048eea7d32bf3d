"""The same server written on stock purerpc, with its own `Server`.

python -m benchmarks.peers.servers.stock_purerpc echo|vad|speech [--backend trio|asyncio|uvloop]
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import click
import purerpc

from benchmarks.peers.answers import WORK, Session
from protos import streaming_pb2 as streaming
from protos.streaming_grpc import StreamingPipelineServiceServicer

_BACKENDS: dict[str, dict[str, Any]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}


class Servicer(StreamingPipelineServiceServicer):
    """Servicer of StreamPipeline."""

    def __init__(self, work: str) -> None:
        self._work = work

    async def StreamPipeline(  # type: ignore[override]  # the generated base declares a coroutine
        self, input_messages: AsyncIterator[streaming.StreamRequest]
    ) -> AsyncIterator[streaming.StreamResponse]:
        session = Session(self._work)
        async for request in input_messages:
            if (response := session.respond(request)) is not None:
                yield response


async def serve(work: str) -> None:
    """Serve on a free port."""
    server = purerpc.Server(0)
    server.add_service(Servicer(work).service)
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(server.serve_async)
        gc.collect()
        gc.freeze()
        print(f"listening on 127.0.0.1:{port}", flush=True)


@click.command()
@click.argument("work", type=click.Choice(list(WORK)))
@click.option("--backend", default="trio", type=click.Choice(list(_BACKENDS)))
def main(work: str, backend: str) -> None:
    """Serve until SIGTERM."""
    anyio.run(serve, work, **_BACKENDS[backend])


if __name__ == "__main__":
    main()
