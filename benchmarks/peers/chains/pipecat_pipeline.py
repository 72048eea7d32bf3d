"""Five frame processors of a Pipecat pipeline that pass frames on.

It runs on uvloop without turn tracking, RTVI or idle watch, which halves its time; `--defaults` keeps Pipecat's
defaults. With `--direct` the processors call one another, without queues and tasks. Frames are `InputAudioRawFrame`s,
which pass through one queue in each processor, while other audio passes through two.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

os.environ["LOGURU_LEVEL"] = "ERROR"  # before loguru is imported

import uvloop
from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from benchmarks.peers.chains.meter import NODES, Meter, main

_SAMPLE_RATE = 16_000
_TUNED: dict[str, Any] = {
    "cancel_on_idle_timeout": False,
    "idle_timeout_secs": None,
    "check_dangling_tasks": False,
    "enable_turn_tracking": False,
    "enable_rtvi": False,
}


class _PassOn(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class _Drain(FrameProcessor):
    """Collects the frames that come out of the pipeline."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.came: asyncio.Queue[InputAudioRawFrame] = asyncio.Queue()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.came.put_nowait(frame)
        else:
            await self.push_frame(frame, direction)


async def chain(meter: Meter) -> None:
    """Run a pipeline until all frames have come out."""
    direct = "--direct" in sys.argv
    nodes = [_PassOn(enable_direct_mode=direct) for _ in range(NODES)]
    drain = _Drain(enable_direct_mode=True)
    worker = PipelineWorker(Pipeline([*nodes, drain]), **({} if "--defaults" in sys.argv else _TUNED))
    ready = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def started(worker: PipelineWorker, frame: Frame) -> None:
        ready.set()

    async def send(frame: bytes) -> None:
        await nodes[0].queue_frame(InputAudioRawFrame(frame, _SAMPLE_RATE, 1))

    runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await ready.wait()
    await meter.drive(asyncio.sleep, send, drain.came.get)
    await worker.queue_frame(EndFrame())
    await running


if __name__ == "__main__":
    run = asyncio.run if "--defaults" in sys.argv else uvloop.run
    main(lambda meter: run(chain(meter)), lambda frame: frame.audio)
