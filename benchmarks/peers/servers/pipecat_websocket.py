"""Pipecat served over its FastAPI WebSocket transport with its protobuf serializer, one pipeline per connection.

    python -m benchmarks.peers.servers.pipecat_websocket [--queues]

Tuned as far as its settings go: uvicorn on uvloop, no logging, turn tracking, RTVI, idle watch or metrics. The
processors never wait, so they are in direct mode (unless `--queues`), in which Pipecat calls one after the other
without a queue between them. The results of a chunk are sent as one urgent message, which no playback clock paces.
"""

from __future__ import annotations

import gc
import os
from typing import Any

os.environ["LOGURU_LEVEL"] = "ERROR"  # before loguru is imported

import click
import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputTransportMessageUrgentFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from benchmarks.peers.by_hand import Resampler, VoiceActivity, level


class Resample(FrameProcessor):
    """Resampling from 48 kHz to 16 kHz."""

    def __init__(self, direct: bool) -> None:
        super().__init__(enable_direct_mode=direct)
        self._resampler = Resampler()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = InputAudioRawFrame(self._resampler.convert(frame.audio).tobytes(), 16_000, 1)
        await self.push_frame(frame, direction)


class Activity(FrameProcessor):
    """Voice activity detection; its decisions go into the metadata of the audio."""

    def __init__(self, direct: bool) -> None:
        super().__init__(enable_direct_mode=direct)
        self._activity = VoiceActivity()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame.metadata["decisions"] = self._activity.hear(frame.audio)
        await self.push_frame(frame, direction)


class Level(FrameProcessor):
    """Level measurement; emits the message to the client."""

    def __init__(self, direct: bool) -> None:
        super().__init__(enable_direct_mode=direct)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            found: dict[str, Any] = {"vad": {"decisions": frame.metadata["decisions"]}}
            found["level"] = level(np.frombuffer(frame.audio, np.int16))
            frame = OutputTransportMessageUrgentFrame(message=found)
        await self.push_frame(frame, direction)


async def serve_session(websocket: WebSocket, direct: bool) -> None:
    """Run a pipeline until its client has disconnected."""
    await websocket.accept()
    params = FastAPIWebsocketParams(audio_in_enabled=True, serializer=ProtobufFrameSerializer())
    transport = FastAPIWebsocketTransport(websocket, params)
    processors = [transport.input(), Resample(direct), Activity(direct), Level(direct), transport.output()]
    worker = PipelineWorker(
        Pipeline(processors),
        params=PipelineParams(audio_in_sample_rate=48_000),
        cancel_on_idle_timeout=False,
        idle_timeout_secs=None,
        check_dangling_tasks=False,
        enable_turn_tracking=False,
        enable_rtvi=False,
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: FastAPIWebsocketTransport, websocket: WebSocket) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    await runner.run()


class Server(uvicorn.Server):
    """Server that prints its address once it listens."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        gc.collect()
        gc.freeze()
        print(f"listening on {host}:{port}", flush=True)


@click.command()
@click.option("--queues", is_flag=True, help="Give each processor its queues and tasks, as Pipecat does by default.")
def main(queues: bool) -> None:
    """Serve on a free port until SIGTERM."""
    app = FastAPI()

    @app.websocket("/")
    async def session(websocket: WebSocket) -> None:
        await serve_session(websocket, direct=not queues)

    Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False, ws_per_message_deflate=False)
    ).run()


if __name__ == "__main__":
    main()
