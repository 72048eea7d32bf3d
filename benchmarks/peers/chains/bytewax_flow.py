"""Five `map` steps of a bytewax dataflow, in one worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from benchmarks.peers.chains.meter import NODES, Meter, main


class _Feed(StatelessSourcePartition[bytes]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def next_batch(self) -> list[bytes]:
        meter = self._meter
        if meter.received == meter.count:
            raise StopIteration
        return [meter.send()] if meter.has_room and not meter.wait_s else []

    def next_awake(self) -> datetime | None:
        wait_s = self._meter.wait_s
        return datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s else None


class _Drain(StatelessSinkPartition[bytes]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def write_batch(self, items: list[bytes]) -> None:
        for item in items:
            self._meter.receive(item)


class _Source(DynamicSource[bytes]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Feed:
        return _Feed(self._meter)


class _Sink(DynamicSink[bytes]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Drain:
        return _Drain(self._meter)


def pass_on(frame: Any) -> Any:
    """Return the frame unchanged: the work of every step."""
    return frame


def run(meter: Meter) -> None:
    """Run the dataflow until all frames have come out."""
    flow = Dataflow("chain")
    stream = op.input("in", flow, _Source(meter))
    for number in range(NODES):
        stream = op.map(f"pass{number}", stream, pass_on)
    op.output("out", stream, _Sink(meter))
    run_main(flow)


if __name__ == "__main__":
    main(run)
