"""Requests, written by clients and read by the server: manifests, limits, options, chunks and controls.

This module checks the encoding only; the engine checks the meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import perf_counter
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from engine.errors import ChunkRefused, Fault, ManifestInvalid, ProtocolMisuse
from engine.limits import MAX_DATA_BYTES, Overflow, ResourceLimits, SessionOptions
from engine.manifest import MAX_MANIFEST_BYTES, Capabilities, Connection, Cpu, Gpu, Manifest, NodeSpec
from engine.messages import BadChunk, Chunk
from engine.strict_json import BadJson, dump_json, load_json_object
from nodes.contract import Audio, Data
from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.codec.audio import decode_audio, encode_audio

__all__ = [
    "decode_audio_chunk",
    "decode_chunk",
    "decode_data",
    "decode_data_chunk",
    "decode_limits",
    "decode_manifest",
    "decode_options",
    "encode_chunk",
    "encode_control",
    "encode_execute_request",
    "encode_manifest",
    "encode_open",
    "parse",
]

_RUNTIMES_FROM_WIRE = {
    pb.RUNTIME_HINT_RUSTPYTHON: "rustpython",
    pb.RUNTIME_HINT_CPYTHON: "cpython",
    pb.RUNTIME_HINT_CPYTHON_WASM: "cpython_wasm",
    pb.RUNTIME_HINT_AUTO: "auto",
}
_RUNTIMES_TO_WIRE = {name: wire for wire, name in _RUNTIMES_FROM_WIRE.items()}
_OVERFLOWS_FROM_WIRE = {
    streaming.OVERFLOW_DROP_OLDEST: Overflow.DROP_OLDEST,
    streaming.OVERFLOW_DROP_NEWEST: Overflow.DROP_NEWEST,
}
_OVERFLOWS_TO_WIRE = {overflow: wire for wire, overflow in _OVERFLOWS_FROM_WIRE.items()}

M = TypeVar("M", bound=Message)


def parse(message: M, data: bytes) -> M:
    """Fill an empty message from bytes.

    Raises:
      ProtocolMisuse: the bytes are not such a message.
    """
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolMisuse(f"not a {type(message).__name__}: the {len(data)} bytes cannot be parsed") from None
    return message


# ---- manifests


def decode_manifest(wire: pb.PipelineManifest) -> Manifest:
    """Decode a manifest without checking its content.

    Raises:
      ManifestInvalid: the manifest is larger than MAX_MANIFEST_BYTES.
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
        runtime_hint=_RUNTIMES_FROM_WIRE.get(node.runtime_hint, ""),
        is_output=node.is_output,
    )


def _capabilities(wire: pb.CapabilityRequirements) -> Capabilities:
    gpu, cpu = wire.gpu, wire.cpu
    return Capabilities(
        Gpu(gpu.type, gpu.min_memory_gb, gpu.required) if wire.HasField("gpu") else None,
        Cpu(cpu.cores, cpu.arch) if wire.HasField("cpu") else None,
        wire.memory_gb,
    )


def encode_manifest(manifest: Manifest) -> pb.PipelineManifest:
    """Encode a manifest; `params` given as a mapping become JSON text."""
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
        node.runtime_hint = _RUNTIMES_TO_WIRE.get(spec.runtime_hint, pb.RUNTIME_HINT_UNSPECIFIED)
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


# ---- limits and options


def decode_limits(wire: pb.ResourceLimits) -> ResourceLimits:
    """Decode the requested limits; the engine clamps them later."""
    return ResourceLimits(wire.max_memory_bytes, wire.max_timeout_ms, wire.max_audio_samples)


def _encode_limits(limits: ResourceLimits, wire: pb.ResourceLimits) -> None:
    wire.max_memory_bytes = limits.max_memory_bytes
    wire.max_timeout_ms = limits.max_timeout_ms
    wire.max_audio_samples = limits.max_audio_samples


def decode_options(wire: streaming.StreamOptions) -> SessionOptions:
    """Decode the requested options; an unknown overflow policy means BLOCK."""
    return SessionOptions(
        input_capacity=wire.input_capacity,
        reorder_window=wire.reorder_window,
        reorder_timeout_ms=wire.reorder_timeout_ms,
        overflow=_OVERFLOWS_FROM_WIRE.get(wire.overflow, Overflow.BLOCK),
        max_age_ms=wire.max_age_ms,
        metrics_interval_ms=wire.metrics_interval_ms,
        lean=wire.lean,
    )


def encode_open(manifest: Manifest, limits: ResourceLimits, options: SessionOptions) -> bytes:
    """Encode a session's first request."""
    request = streaming.StreamRequest(manifest=encode_manifest(manifest))
    wire = request.options
    _encode_limits(limits, wire.resource_limits)
    wire.client_version = "v1"
    wire.metrics_interval_ms = options.metrics_interval_ms
    wire.reorder_window = options.reorder_window
    wire.reorder_timeout_ms = options.reorder_timeout_ms
    wire.overflow = _OVERFLOWS_TO_WIRE.get(options.overflow, streaming.OVERFLOW_BLOCK)
    wire.max_age_ms = options.max_age_ms
    wire.lean = options.lean
    wire.input_capacity = options.input_capacity
    assert options.overflow in _OVERFLOWS_TO_WIRE or options.overflow is Overflow.BLOCK
    return request.SerializeToString()


# ---- chunks and controls


def decode_data(text: str) -> Data:
    """Make a data item from JSON text.

    Raises:
      ChunkRefused: the text is not a JSON object, or longer than MAX_DATA_BYTES.
    """
    try:
        return Data(load_json_object(text, max_bytes=MAX_DATA_BYTES))
    except BadJson as error:
        raise ChunkRefused(f"data: {error}") from None


def decode_chunk(request: streaming.StreamRequest, received_at: float, began: float) -> Chunk | BadChunk | None:
    """Decode a request's chunk; None if the request holds something else.

    Args:
      request: The parsed request.
      received_at: Time at which its bytes were read, on `perf_counter`.
      began: Time at which parsing began, on `perf_counter`.

    Returns:
      A `BadChunk` with the error if the chunk cannot be decoded.
    """
    if request.HasField("audio_chunk"):
        return decode_audio_chunk(request.audio_chunk, received_at, began)
    if request.HasField("data_chunk"):
        return decode_data_chunk(request.data_chunk, received_at, began)
    return None


def decode_audio_chunk(wire: streaming.AudioChunk, received_at: float, began: float) -> Chunk | BadChunk:
    """Decode a chunk of audio; arguments and errors as for `decode_chunk`."""
    try:
        audio = decode_audio(wire.buffer)
    except ChunkRefused as error:
        return BadChunk(error, wire.sequence, wire.node_id)
    return Chunk(audio, wire.sequence, wire.node_id, wire.timestamp_ms, received_at, perf_counter() - began)


def decode_data_chunk(wire: streaming.DataChunk, received_at: float, began: float) -> Chunk | BadChunk:
    """Decode a chunk of data; arguments and errors as for `decode_chunk`."""
    text = wire.json
    try:
        data = decode_data(text)
    except ChunkRefused as error:
        return BadChunk(error, wire.sequence, wire.node_id)
    took = perf_counter() - began
    return Chunk(data, wire.sequence, wire.node_id, wire.timestamp_ms, received_at, took, len(text))


def encode_chunk(chunk: Chunk) -> bytes:
    """Encode a request with one chunk."""
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
    """Encode a request with one control command."""
    return streaming.StreamRequest(control=streaming.StreamControl(command=command)).SerializeToString()


# ---- unary


def encode_execute_request(
    manifest: Manifest, audio: Mapping[str, Audio], data: Mapping[str, Data], limits: ResourceLimits
) -> bytes:
    """Encode the request of a unary call."""
    request = execution.ExecuteRequest(manifest=encode_manifest(manifest), client_version="v1")
    for node, each in audio.items():
        encode_audio(each, request.audio_inputs[node])
    for node, item in data.items():
        request.data_inputs[node] = dump_json(item.value)
    _encode_limits(limits, request.resource_limits)
    return request.SerializeToString()
