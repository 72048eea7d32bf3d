"""Five bare trio tasks joined by memory channels: the baseline of Headrace's engine."""

from __future__ import annotations

import trio

from benchmarks.load.trio_baseline import open_relay
from benchmarks.load.workloads import branches
from benchmarks.peers.chains.meter import NODES, Meter, main


async def chain(meter: Meter) -> None:
    """Run the relay until all frames have come out."""
    async with open_relay(branches(NODES, 1)) as ends:
        await meter.drive(trio.sleep, ends.send, ends.receive)


if __name__ == "__main__":
    main(lambda meter: trio.run(chain, meter))
