"""Five PassThrough nodes of Headrace's engine, through a session, with its admission, ledger and metrics.

With `--full`, results carry the figures of every node.
"""

from __future__ import annotations

import sys

import numpy as np
import trio

from benchmarks.load.workloads import branches
from benchmarks.peers.chains.meter import NODES, Meter, main
from engine.errors import EngineError
from engine.limits import SessionOptions
from engine.messages import Chunk, Result
from engine.session import open_session
from nodes.contract import Audio
from nodes.registry import BUILTIN

_SAMPLE_RATE = 16_000


async def chain(meter: Meter) -> None:
    """Run a session until all frames have come out."""
    capacity = meter.window + 1  # one more, for a result being handed over
    options = SessionOptions(lean="--full" not in sys.argv, input_capacity=capacity)
    async with open_session(branches(NODES, 1), registry=BUILTIN, options=options) as session:

        async def send(frame: bytes) -> None:
            await session.send(Chunk(Audio(np.frombuffer(frame, np.int16)[:, None], _SAMPLE_RATE), meter.sent - 1))

        async def receive() -> Result:
            while not isinstance(event := await session.receive(), Result):
                if isinstance(event, EngineError):
                    raise event
            return event

        await meter.drive(trio.sleep, send, receive)


def _content(result: Result) -> bytes:
    (output,) = result.outputs.values()
    assert output.audio is not None
    return output.audio.frames.tobytes()


if __name__ == "__main__":
    main(lambda meter: trio.run(chain, meter), _content)
