"""The codec seen from the client: the engine's types to requests, and responses back to the engine's types."""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.errors import Category, EngineError
from engine.jsontext import dump_json
from engine.limits import Overflow, ResourceLimits, SessionOptions
from engine.manifest import Manifest
from engine.packet import (
    Chunk,
    NodeFigures,
    NodeOutcome,
    NodeStatus,
    Output,
    Ready,
    Result,
    SessionMetrics,
    Status,
)
from nodes.contract import Audio, Data
from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.codec import NODE_STATUSES, OVERFLOWS, RUNTIMES, STATUSES, decode_audio, encode_audio
from transport.details import unpack
from transport.rpc_status import StatusCode
from transport.status import TABLE, category_of

__all__ = [
    "Event",
    "RemoteError",
    "decode_event",
    "decode_execute_response",
    "decode_ready",
    "decode_remote_error",
    "encode_chunk",
    "encode_control",
    "encode_execute_request",
    "encode_manifest",
    "encode_open",
]

_NODE_STATUSES = {wire: status for status, wire in NODE_STATUSES.items()}
_STATUSES = {wire: status for status, wire in STATUSES.items()}
_OVERFLOWS = {overflow: wire for wire, overflow in OVERFLOWS.items()}
_ENGINES_CODES = frozenset(meaning.code for meaning in TABLE.values())
_RUNTIMES = {name: wire for wire, name in RUNTIMES.items()}


class RemoteError(EngineError):
    """An error that the server reported.

    Attributes:
      category: what a client may do about it.
      code: the status that the call ended with; None for an error in band, after which the session goes on.
      retryable: the same call may succeed later.
      retry_after_ms: how long to wait at least before that; 0 when not said.
    """

    category: Category  # type: ignore[misc]

    def __init__(
        self,
        wire: pb.ErrorResponse,
        sequence: int | None = None,
        code: StatusCode | None = None,
        pushback_ms: int | None = None,
    ) -> None:
        super().__init__(wire.message, node_id=wire.failing_node_id, sequence=sequence, stack_trace=wire.stack_trace)
        self.category = category_of(wire.error_type)
        self.code = code
        self.retryable = wire.retryable if pushback_ms is None else pushback_ms >= 0
        self.retry_after_ms = max(wire.retry_after_ms, pushback_ms or 0)
        if wire.context:
            self.context = _object(wire.context)


def _object(text: str) -> dict[str, object]:
    """JSON of the server's, which is trusted no further than to be shown."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


Event = Result | RemoteError | SessionMetrics


# Requests


def encode_manifest(manifest: Manifest) -> pb.PipelineManifest:
    """A manifest as it goes over the wire."""
    wire = pb.PipelineManifest(version=manifest.version)
    wire.metadata.name = manifest.name
    wire.metadata.description = manifest.description
    wire.metadata.created_at = manifest.created_at
    for spec in manifest.nodes:
        node = wire.nodes.add(
            id=spec.id,
            node_type=spec.node_type,
            params=spec.params if isinstance(spec.params, str) else json.dumps(dict(spec.params)),
            is_streaming=spec.is_streaming,
            host=spec.host,
            is_output=spec.is_output,
        )
        node.runtime_hint = _RUNTIMES.get(spec.runtime_hint, pb.RUNTIME_HINT_UNSPECIFIED)
        if (asked := spec.capabilities) is not None:
            node.capabilities.memory_gb = asked.memory_gb
            if asked.cpu is not None:
                node.capabilities.cpu.cores = asked.cpu.cores
                node.capabilities.cpu.arch = asked.cpu.arch
            if asked.gpu is not None:
                node.capabilities.gpu.type = asked.gpu.type
                node.capabilities.gpu.min_memory_gb = asked.gpu.min_memory_gb
                node.capabilities.gpu.required = asked.gpu.required
    for edge in manifest.connections:
        link = wire.connections.add(to=edge.target)
        setattr(link, "from", edge.source)
    return wire


def _limits(limits: ResourceLimits, wire: pb.ResourceLimits) -> None:
    wire.max_memory_bytes = limits.max_memory_bytes
    wire.max_timeout_ms = limits.max_timeout_ms
    wire.max_audio_samples = limits.max_audio_samples


def encode_open(manifest: Manifest, limits: ResourceLimits, options: SessionOptions) -> bytes:
    """A session's first request."""
    request = streaming.StreamRequest(manifest=encode_manifest(manifest))
    wire = request.options
    _limits(limits, wire.resource_limits)
    wire.client_version = "v1"
    wire.metrics_interval_ms = options.metrics_interval_ms
    wire.reorder_window = options.reorder_window
    wire.reorder_timeout_ms = options.reorder_timeout_ms
    wire.overflow = _OVERFLOWS.get(options.overflow, streaming.OVERFLOW_BLOCK)
    wire.max_age_ms = options.max_age_ms
    wire.lean = options.lean
    wire.input_capacity = options.input_capacity
    assert options.overflow in _OVERFLOWS or options.overflow is Overflow.BLOCK
    return request.SerializeToString()


def encode_chunk(chunk: Chunk) -> bytes:
    """A request with one chunk."""
    request = streaming.StreamRequest()
    wire: streaming.AudioChunk | streaming.DataChunk
    if isinstance(chunk.item, Audio):
        wire = request.audio_chunk
        encode_audio(chunk.item, wire.buffer)
    else:
        wire = request.data_chunk
        wire.json = dump_json(chunk.item.value)
    wire.node_id = chunk.source
    wire.sequence = chunk.sequence
    wire.timestamp_ms = chunk.timestamp_ms
    return request.SerializeToString()


def encode_control(command: streaming.StreamControl.Command.ValueType) -> bytes:
    """A request with one command."""
    return streaming.StreamRequest(control=streaming.StreamControl(command=command)).SerializeToString()


def encode_execute_request(
    manifest: Manifest, audio: Mapping[str, Audio], data: Mapping[str, Data], limits: ResourceLimits
) -> bytes:
    """A unary request."""
    request = execution.ExecuteRequest(manifest=encode_manifest(manifest), client_version="v1")
    for node, each in audio.items():
        encode_audio(each, request.audio_inputs[node])
    for node, item in data.items():
        request.data_inputs[node] = dump_json(item.value)
    _limits(limits, request.resource_limits)
    return request.SerializeToString()


# Responses


def decode_ready(wire: streaming.StreamReady) -> Ready:
    """What the session told when it was ready."""
    return Ready(wire.session_id, wire.max_delay_ms, wire.input_capacity, wire.recommended_chunk_ms)


def decode_remote_error(details: bytes, code: StatusCode, pushback_ms: int | None = None) -> RemoteError | None:
    """The server's own error out of a status' details, if there is one in them.

    A server explains every failure; those codes that no error of the engine's ends with are the transport's to tell.
    """
    wire = unpack(details, code) if code in _ENGINES_CODES else None
    return None if wire is None else RemoteError(wire, code=code, pushback_ms=pushback_ms)


def decode_event(response: streaming.StreamResponse) -> Event | None:
    """A session's event; None for one that this client does not know.

    Raises:
      ChunkRefused: the server sent audio whose numbers do not agree.
    """
    sequence = response.sequence if response.WhichOneof("about") else None
    what = response.WhichOneof("response")
    if what == "result":
        return _result(response.result, sequence, response.flush, response.timestamp_ms)
    if what == "error":
        return RemoteError(response.error, sequence)
    if what == "metrics":
        return _session_metrics(response.metrics)
    return None


def decode_execute_response(response: execution.ExecuteResponse) -> Result:
    """The result of a unary call.

    Raises:
      RemoteError: the answer is an error.
      ChunkRefused: the server sent audio whose numbers do not agree.
    """
    if response.WhichOneof("outcome") == "error":
        raise RemoteError(response.error)
    return _result(response.result, None, True, 0)


def _result(wire: pb.ExecutionResult, sequence: int | None, flush: bool, timestamp_ms: int) -> Result:
    outputs = {node: Output(decode_audio(buffer)) for node, buffer in wire.audio_outputs.items()}
    for node, text in wire.data_outputs.items():
        audio = outputs[node].audio if node in outputs else None
        outputs[node] = Output(audio, Data(_object(text)))
    metrics = wire.metrics
    return Result(
        sequence=sequence,
        flush=flush,
        outputs=outputs,
        status=_STATUSES.get(wire.status, Status.FAILED),
        nodes=[
            NodeOutcome(
                node.node_id,
                _NODE_STATUSES.get(node.status, NodeStatus.FAILED),
                RemoteError(node.error, sequence) if node.HasField("error") else None,
                node.output_metadata,
            )
            for node in wire.node_results
        ],
        figures={node: _figures(each) for node, each in metrics.node_metrics.items()},
        wall_ms=metrics.wall_time_ms,
        cpu_ms=metrics.cpu_time_ms,
        memory_bytes=metrics.memory_used_bytes,
        parse_ms=metrics.serialization_time_ms,
        timestamp_ms=timestamp_ms,
    )


def _figures(wire: pb.NodeMetrics) -> NodeFigures:
    return NodeFigures(
        run_ms=wire.execution_time_ms,
        queue_ms=wire.queue_time_ms,
        max_run_ms=wire.max_execution_time_ms,
        chunks=wire.chunks,
        samples=wire.samples_processed,
        memory_bytes=wire.memory_bytes,
        custom_metrics=wire.custom_metrics,
    )


def _session_metrics(wire: streaming.StreamMetrics) -> SessionMetrics:
    return SessionMetrics(
        session_id=wire.session_id,
        final=wire.final,
        received=wire.received,
        accepted=wire.accepted,
        refused=wire.refused,
        delivered=wire.delivered,
        rejected=wire.rejected,
        dropped=wire.dropped,
        cancelled=wire.cancelled,
        missing=wire.missing,
        in_flight=wire.in_flight,
        total_samples=wire.total_samples,
        average_latency_ms=wire.average_latency_ms,
        p50_latency_ms=wire.p50_latency_ms,
        p95_latency_ms=wire.p95_latency_ms,
        p99_latency_ms=wire.p99_latency_ms,
        max_latency_ms=wire.max_latency_ms,
        peak_memory_bytes=wire.peak_memory_bytes,
        delay_ms=wire.delay_ms,
        figures={node: _figures(each) for node, each in wire.node_metrics.items()},
    )
