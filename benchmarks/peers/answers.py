"""Answers of a hand-written server of our protocol: the same functions behind grpcio, purerpc and our driver."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.peers.by_hand import Resampler, VoiceActivity, level
from protos import common_pb2 as pb
from protos import streaming_pb2 as streaming

__all__ = ["METHOD", "SERVICE", "WORK", "Session"]

SERVICE, METHOD = "remotemedia.v1.StreamingPipelineService", "StreamPipeline"

_Work = Callable[[streaming.AudioChunk, pb.ExecutionResult], None]
"""Writes the outputs of a chunk into an empty result."""


def _echo() -> _Work:
    def work(chunk: streaming.AudioChunk, result: pb.ExecutionResult) -> None:
        result.audio_outputs["pass"].CopyFrom(chunk.buffer)
        result.data_outputs["pass"] = "{}"

    return work


def _vad() -> _Work:
    activity = VoiceActivity()

    def work(chunk: streaming.AudioChunk, result: pb.ExecutionResult) -> None:
        result.data_outputs["vad"] = json.dumps({"decisions": activity.hear(chunk.buffer.samples)})

    return work


def _speech() -> _Work:
    resampler, activity = Resampler(), VoiceActivity()

    def work(chunk: streaming.AudioChunk, result: pb.ExecutionResult) -> None:
        converted = resampler.convert(chunk.buffer.samples)
        result.data_outputs["vad"] = json.dumps({"decisions": activity.hear(converted.tobytes())})
        result.data_outputs["level"] = json.dumps(level(converted))

    return work


WORK: dict[str, Callable[[], _Work]] = {"echo": _echo, "vad": _vad, "speech": _speech}
"""Name → factory of the work of one session."""


class Session:
    """Requests of one stream and their responses, without any checks."""

    def __init__(self, work: str) -> None:
        self._work = WORK[work]()

    def respond(self, request: streaming.StreamRequest) -> streaming.StreamResponse | None:
        """Return the response to a request, or None if the request needs none."""
        if request.HasField("audio_chunk"):
            chunk = request.audio_chunk
            response = streaming.StreamResponse(sequence=chunk.sequence)
            response.result.status = pb.EXECUTION_STATUS_SUCCESS
            self._work(chunk, response.result)
            return response
        if request.HasField("manifest"):
            return streaming.StreamResponse(ready=streaming.StreamReady(input_capacity=32))
        return None
