"""Protobuf to the engine's types and back, on the server's side: pure functions.

Whatever comes from outside is checked here as far as it concerns the bytes; what it means is the engine's to judge.
Samples are viewed where they lie in the message, and copied once on their way out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from engine.errors import ChunkRefused, EngineError, Fault, ManifestInvalid, NodeFailed, ProtocolMisuse
from engine.intake import MAX_DATA_BYTES
from engine.jsontext import BadJson, dump_json, load_json_object
from engine.limits import Overflow, ResourceLimits, SessionOptions
from engine.manifest import MAX_MANIFEST_BYTES, Capabilities, Connection, Cpu, Gpu, Manifest, NodeSpec
from engine.packet import BadChunk, Chunk, NodeFigures, NodeOutcome, NodeStatus, Ready, Result, SessionMetrics, Status
from nodes.contract import MAX_CHANNELS, MAX_SAMPLE_RATE, Audio, Data, Samples
from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.status import error_response

__all__ = [
    "NodeResults",
    "decode_audio",
    "decode_audio_chunk",
    "decode_chunk",
    "decode_data",
    "decode_data_chunk",
    "decode_limits",
    "decode_manifest",
    "decode_options",
    "encode_audio",
    "encode_error",
    "encode_execute_response",
    "encode_metrics",
    "encode_ready",
    "encode_result",
    "execution_result",
    "parse",
]

_LITTLE_ENDIAN = sys.byteorder == "little"  # as on the wire
DTYPES: Mapping[int, np.dtype[Any]] = {
    pb.AUDIO_FORMAT_F32: np.dtype("<f4"),
    pb.AUDIO_FORMAT_I16: np.dtype("<i2"),
    pb.AUDIO_FORMAT_I32: np.dtype("<i4"),
}
FORMATS = {"f32": pb.AUDIO_FORMAT_F32, "i16": pb.AUDIO_FORMAT_I16, "i32": pb.AUDIO_FORMAT_I32}
RUNTIMES = {
    pb.RUNTIME_HINT_RUSTPYTHON: "rustpython",
    pb.RUNTIME_HINT_CPYTHON: "cpython",
    pb.RUNTIME_HINT_CPYTHON_WASM: "cpython_wasm",
    pb.RUNTIME_HINT_AUTO: "auto",
}
OVERFLOWS = {
    streaming.OVERFLOW_DROP_OLDEST: Overflow.DROP_OLDEST,
    streaming.OVERFLOW_DROP_NEWEST: Overflow.DROP_NEWEST,
}
NODE_STATUSES = {
    NodeStatus.SUCCESS: pb.NODE_STATUS_SUCCESS,
    NodeStatus.SKIPPED: pb.NODE_STATUS_SKIPPED,
    NodeStatus.FAILED: pb.NODE_STATUS_FAILED,
}
STATUSES = {
    Status.SUCCESS: pb.EXECUTION_STATUS_SUCCESS,
    Status.PARTIAL_SUCCESS: pb.EXECUTION_STATUS_PARTIAL_SUCCESS,
    Status.FAILED: pb.EXECUTION_STATUS_FAILED,
}


# In


M = TypeVar("M", bound=Message)


def parse(message: M, data: bytes) -> M:
    """Fill an empty message from bytes.

    Raises:
      ProtocolMisuse: they are no such message.
    """
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolMisuse(f"not a {type(message).__name__}: the {len(data)} bytes cannot be parsed") from None
    return message


def decode_manifest(wire: pb.PipelineManifest) -> Manifest:
    """The manifest as asked for, not yet judged.

    Raises:
      ManifestInvalid: it is too large.
    """
    size = wire.ByteSize()
    if size > MAX_MANIFEST_BYTES:
        raise ManifestInvalid([Fault("manifest", f"{size} bytes; the limit is {MAX_MANIFEST_BYTES}")])
    return Manifest(
        wire.version,
        tuple(_node_spec(node) for node in wire.nodes),
        tuple(Connection(getattr(edge, "from"), edge.to) for edge in wire.connections),
        wire.metadata.name,
        wire.metadata.description,
        wire.metadata.created_at,
    )


def _node_spec(node: pb.NodeManifest) -> NodeSpec:
    return NodeSpec(
        id=node.id,
        node_type=node.node_type,
        params=node.params,
        is_streaming=node.is_streaming,
        capabilities=_capabilities(node.capabilities) if node.HasField("capabilities") else None,
        host=node.host,
        runtime_hint=RUNTIMES.get(node.runtime_hint, ""),
        is_output=node.is_output,
    )


def _capabilities(wire: pb.CapabilityRequirements) -> Capabilities:
    gpu, cpu = wire.gpu, wire.cpu
    return Capabilities(
        Gpu(gpu.type, gpu.min_memory_gb, gpu.required) if wire.HasField("gpu") else None,
        Cpu(cpu.cores, cpu.arch) if wire.HasField("cpu") else None,
        wire.memory_gb,
    )


def decode_limits(wire: pb.ResourceLimits) -> ResourceLimits:
    """The limits as asked for."""
    return ResourceLimits(wire.max_memory_bytes, wire.max_timeout_ms, wire.max_audio_samples)


def decode_options(wire: streaming.StreamOptions) -> SessionOptions:
    """The options as asked for; an overflow policy that is not known is BLOCK."""
    return SessionOptions(
        input_capacity=wire.input_capacity,
        reorder_window=wire.reorder_window,
        reorder_timeout_ms=wire.reorder_timeout_ms,
        overflow=OVERFLOWS.get(wire.overflow, Overflow.BLOCK),
        max_age_ms=wire.max_age_ms,
        metrics_interval_ms=wire.metrics_interval_ms,
        lean=wire.lean,
    )


def decode_audio(wire: pb.AudioBuffer) -> Audio:
    """View a buffer's samples as audio at position 0.

    Raises:
      ChunkRefused: it does not say of what format, or its numbers do not agree.
    """
    channels, count, sample_rate, samples = wire.channels, wire.num_samples, wire.sample_rate, wire.samples
    dtype = DTYPES.get(wire.format)
    if dtype is None:
        raise ChunkRefused(f"format must be F32 (1), I16 (2) or I32 (3), got {wire.format}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ChunkRefused(f"channels must be 1 to {MAX_CHANNELS}, got {channels}")
    if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
        raise ChunkRefused(f"sample_rate must be 1 to {MAX_SAMPLE_RATE} Hz, got {sample_rate}")
    if len(samples) != count * dtype.itemsize:
        raise ChunkRefused(
            f"samples has {len(samples)} bytes, but num_samples = {count} of {dtype.itemsize} bytes each"
            f" make {count * dtype.itemsize}"
        )
    if count % channels:
        raise ChunkRefused(f"num_samples = {count} is not divisible by channels = {channels}")
    frames: Samples = np.ndarray((count // channels, channels), dtype, samples)
    return Audio(frames if _LITTLE_ENDIAN else frames.astype(dtype.newbyteorder("=")), sample_rate)


def decode_data(text: str) -> Data:
    """Make a data item of JSON text.

    Raises:
      ChunkRefused: it is no JSON object, or too long.
    """
    try:
        return Data(load_json_object(text, max_bytes=MAX_DATA_BYTES))
    except BadJson as error:
        raise ChunkRefused(f"data: {error}") from None


def decode_chunk(request: streaming.StreamRequest, received_at: float, began: float) -> Chunk | BadChunk | None:
    """The chunk of a request, or what is wrong with it; None if the request is something else.

    Args:
      request: as parsed.
      received_at: when its bytes had been read.
      began: when parsing began.
    """
    if request.HasField("audio_chunk"):
        return decode_audio_chunk(request.audio_chunk, received_at, began)
    if request.HasField("data_chunk"):
        return decode_data_chunk(request.data_chunk, received_at, began)
    return None


def decode_audio_chunk(wire: streaming.AudioChunk, received_at: float, began: float) -> Chunk | BadChunk:
    """A chunk of audio, or what is wrong with it; times as for `decode_chunk`."""
    try:
        audio = decode_audio(wire.buffer)
    except ChunkRefused as error:
        return BadChunk(error, wire.sequence, wire.node_id)
    return Chunk(audio, wire.sequence, wire.node_id, wire.timestamp_ms, received_at, perf_counter() - began)


def decode_data_chunk(wire: streaming.DataChunk, received_at: float, began: float) -> Chunk | BadChunk:
    """A chunk of data, or what is wrong with it; times as for `decode_chunk`."""
    text = wire.json
    try:
        data = decode_data(text)
    except ChunkRefused as error:
        return BadChunk(error, wire.sequence, wire.node_id)
    took = perf_counter() - began
    return Chunk(data, wire.sequence, wire.node_id, wire.timestamp_ms, received_at, took, len(text))


# Out


def encode_audio(audio: Audio, wire: pb.AudioBuffer) -> None:
    """Write audio into an empty buffer message."""
    frames = audio.frames
    form = FORMATS[audio.sample_format]
    wire.samples = (frames if _LITTLE_ENDIAN else frames.astype(DTYPES[form])).tobytes()
    wire.sample_rate = audio.sample_rate
    wire.channels = audio.channels
    wire.format = form
    wire.num_samples = frames.size


def encode_ready(ready: Ready) -> streaming.StreamResponse:
    """The first answer of a session."""
    return streaming.StreamResponse(
        ready=streaming.StreamReady(
            session_id=ready.session_id,
            recommended_chunk_ms=ready.recommended_chunk_ms,
            max_delay_ms=ready.max_delay_ms,
            input_capacity=ready.input_capacity,
        )
    )


class NodeResults:
    """What became of each node, as a part of a result: built again only when it is not the same as the last time.

    Args:
      debug: with stack traces.
    """

    __slots__ = ("_built", "_debug", "_outcomes")

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        self._outcomes: Sequence[NodeOutcome] = ()
        self._built = pb.ExecutionResult()

    def of(self, outcomes: Sequence[NodeOutcome]) -> pb.ExecutionResult:
        """A result with this part alone; to be copied, not changed."""
        if outcomes is not self._outcomes:
            self._built = pb.ExecutionResult()
            for each in outcomes:
                wire = self._built.node_results.add(
                    node_id=each.node_id, status=NODE_STATUSES[each.status], output_metadata=each.metadata
                )
                if each.error is not None:
                    wire.error.CopyFrom(error_response(each.error, debug=self._debug))
            self._outcomes = outcomes
        return self._built


def execution_result(result: Result, wire: pb.ExecutionResult, nodes: NodeResults) -> None:
    """Write a result into an empty message.

    `serialization_time_ms` is parsing the request and building this content; it cannot hold its own final encoding.
    `cpu_time_ms` has it too: parsing and building never wait.

    Raises:
      NodeFailed: a node gave data that is not JSON.
    """
    began = perf_counter()
    if result.nodes:
        wire.CopyFrom(nodes.of(result.nodes))
    for node, output in result.outputs.items():
        if output.audio is not None:
            encode_audio(output.audio, wire.audio_outputs[node])
        if output.data is not None:
            wire.data_outputs[node] = _json(output.data, node, result.sequence)
    wire.status = STATUSES[result.status]
    metrics = wire.metrics
    for node, figures in result.figures.items():
        _node_metrics(figures, metrics.node_metrics[node])
    metrics.memory_used_bytes = result.memory_bytes
    built = (perf_counter() - began) * 1e3
    metrics.wall_time_ms = result.wall_ms + built
    metrics.cpu_time_ms = result.cpu_ms + result.parse_ms + built
    metrics.serialization_time_ms = result.parse_ms + built


def _json(data: Data, node: str, sequence: int | None) -> str:
    try:
        return dump_json(data.value)
    except (ValueError, TypeError, RecursionError) as error:
        raise NodeFailed(
            f"the data that node {node!r} gave is not JSON: {error}", node_id=node, sequence=sequence
        ) from error


def encode_result(result: Result, nodes: NodeResults | None = None) -> streaming.StreamResponse:
    """A row's answer.

    Args:
      result: the row's.
      nodes: the session's; one that serves this once, if not given.

    Raises:
      NodeFailed: a node gave data that is not JSON.
    """
    response = streaming.StreamResponse()
    if result.flush:
        response.flush = True
    if result.timestamp_ms:
        response.timestamp_ms = result.timestamp_ms
    if result.sequence is not None:
        response.sequence = result.sequence
    execution_result(result, response.result, nodes or NodeResults())
    return response


def encode_error(error: EngineError, *, debug: bool = False) -> streaming.StreamResponse:
    """An error in band, about a sequence number if it concerns one."""
    response = streaming.StreamResponse(error=error_response(error, debug=debug))
    if error.sequence is not None:
        response.sequence = error.sequence
    return response


def encode_metrics(metrics: SessionMetrics) -> streaming.StreamResponse:
    """A session's account of itself."""
    wire = streaming.StreamMetrics(
        chunks_processed=metrics.delivered + metrics.rejected,
        average_latency_ms=metrics.average_latency_ms,
        total_samples=metrics.total_samples,
        session_id=metrics.session_id,
        received=metrics.received,
        accepted=metrics.accepted,
        delivered=metrics.delivered,
        rejected=metrics.rejected,
        refused=metrics.refused,
        dropped=metrics.dropped,
        cancelled=metrics.cancelled,
        missing=metrics.missing,
        in_flight=metrics.in_flight,
        p50_latency_ms=metrics.p50_latency_ms,
        p95_latency_ms=metrics.p95_latency_ms,
        p99_latency_ms=metrics.p99_latency_ms,
        max_latency_ms=metrics.max_latency_ms,
        peak_memory_bytes=metrics.peak_memory_bytes,
        delay_ms=metrics.delay_ms,
        final=metrics.final,
    )
    for node, figures in metrics.figures.items():
        _node_metrics(figures, wire.node_metrics[node])
    return streaming.StreamResponse(metrics=wire)


def _node_metrics(figures: NodeFigures, wire: pb.NodeMetrics) -> None:
    wire.execution_time_ms = figures.run_ms
    wire.memory_bytes = figures.memory_bytes
    wire.samples_processed = figures.samples
    wire.custom_metrics = figures.custom_metrics
    wire.queue_time_ms = figures.queue_ms
    wire.chunks = figures.chunks
    wire.max_execution_time_ms = figures.max_run_ms


def encode_execute_response(outcome: Result | EngineError, *, debug: bool = False) -> execution.ExecuteResponse:
    """A unary call's answer."""
    response = execution.ExecuteResponse()
    if isinstance(outcome, EngineError):
        response.error.CopyFrom(error_response(outcome, debug=debug))
    else:
        execution_result(outcome, response.result, NodeResults(debug=debug))
    return response
