"""Our transport alone: the same hand-written server on Headrace's driver, without its engine.

python -m benchmarks.peers.servers.own_driver echo|vad|speech
"""

from __future__ import annotations

import gc
from functools import partial

import click
import trio

from benchmarks.peers.answers import METHOD, SERVICE, WORK, Session
from protos import streaming_pb2 as streaming
from transport.server import Server, serve
from transport.server.call import Call


async def stream_pipeline(call: Call, work: str) -> None:
    """Answer the requests of one call."""
    session = Session(work)
    while (data := await call.receive()) is not None:
        if (response := session.respond(streaming.StreamRequest.FromString(data))) is not None:
            await call.send(response.SerializeToString())


async def run(work: str) -> None:
    """Serve on a free port."""
    handlers = {f"/{SERVICE}/{METHOD}": partial(stream_pipeline, work=work)}
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(serve, handlers))
        gc.collect()
        gc.freeze()
        print(f"listening on 127.0.0.1:{server.port}", flush=True)


@click.command()
@click.argument("work", type=click.Choice(list(WORK)))
def main(work: str) -> None:
    """Serve until SIGTERM."""
    trio.run(run, work)


if __name__ == "__main__":
    main()
