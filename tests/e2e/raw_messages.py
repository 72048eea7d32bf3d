"""Messages made and read from the generated classes directly, independently of the codec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming

Request = streaming.StreamRequest
Response = streaming.StreamResponse
Samples = NDArray[Any]

FORMATS = {"float32": 1, "int16": 2, "int32": 3}
DTYPES = {1: "<f4", 2: "<i2", 3: "<i4"}

FLUSH = Request(control=streaming.StreamControl(command=streaming.StreamControl.COMMAND_FLUSH))
CLOSE = Request(control=streaming.StreamControl(command=streaming.StreamControl.COMMAND_CLOSE))
CANCEL = Request(control=streaming.StreamControl(command=streaming.StreamControl.COMMAND_CANCEL))

Nodes = Mapping[str, str | tuple[str, Mapping[str, Any]]]


def pipeline(nodes: Nodes, *edges: str, outputs: Sequence[str] = ()) -> pb.PipelineManifest:
    """Make a manifest: `pipeline({"in": "PassThrough", "vad": ("VAD", {...})}, "in>vad")`."""
    manifest = pb.PipelineManifest(version="v1")
    manifest.metadata.name = "test"
    for name, what in nodes.items():
        node_type, params = (what, {}) if isinstance(what, str) else what
        manifest.nodes.add(id=name, node_type=node_type, params=json.dumps(params), is_output=name in outputs)
    for edge in edges:
        source, target = edge.split(">")
        setattr(manifest.connections.add(to=target), "from", source)
    return manifest


ECHO = pipeline({"in": "PassThrough"})


def opening(manifest: pb.PipelineManifest = ECHO, **options: Any) -> Request:
    """Make a session's first request; `options` are fields of StreamOptions and of its ResourceLimits."""
    limits = {name: options.pop(name) for name in list(options) if name in pb.ResourceLimits.DESCRIPTOR.fields_by_name}
    return Request(
        manifest=manifest,
        options=streaming.StreamOptions(resource_limits=pb.ResourceLimits(**limits), **options),
    )


def buffer(samples: Samples, rate: int = 16_000, /, **changes: Any) -> pb.AudioBuffer:
    """Make a buffer of samples, shape (n,) or (n, channels); `changes` overwrite its fields."""
    samples = np.asarray(samples)
    fields: dict[str, Any] = {
        "samples": samples.astype(samples.dtype.newbyteorder("<")).tobytes(),
        "sample_rate": rate,
        "channels": 1 if samples.ndim == 1 else samples.shape[1],
        "format": FORMATS[samples.dtype.name],
        "num_samples": samples.size,
    }
    return pb.AudioBuffer(**(fields | changes))


def chunk(
    samples: Samples | pb.AudioBuffer, sequence: int = 0, *, rate: int = 16_000, node: str = "", timestamp_ms: int = 0
) -> Request:
    made = samples if isinstance(samples, pb.AudioBuffer) else buffer(samples, rate)
    return Request(
        audio_chunk=streaming.AudioChunk(node_id=node, buffer=made, sequence=sequence, timestamp_ms=timestamp_ms)
    )


def data(value: Any, sequence: int = 0, *, node: str = "", timestamp_ms: int = 0) -> Request:
    """Make a data chunk; a string is JSON text, used unchanged."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Request(
        data_chunk=streaming.DataChunk(node_id=node, json=text, sequence=sequence, timestamp_ms=timestamp_ms)
    )


def ramp(sequence: int = 0, frames: int = 160) -> Samples:
    """Make a chunk of 16-bit samples that identify its number."""
    return np.arange(sequence * frames, (sequence + 1) * frames, dtype=np.int64).astype(np.int16)


def samples_of(wire: pb.AudioBuffer) -> Samples:
    """Return a buffer's samples, shape (n, channels), after checking their number."""
    samples = np.frombuffer(wire.samples, DTYPES[wire.format])
    assert samples.size == wire.num_samples
    return samples.reshape(-1, wire.channels)


def results(responses: Iterable[Response]) -> list[Response]:
    return [response for response in responses if response.WhichOneof("response") == "result"]


def errors(responses: Iterable[Response]) -> list[Response]:
    return [response for response in responses if response.WhichOneof("response") == "error"]


def final_metrics(responses: Sequence[Response]) -> streaming.StreamMetrics:
    """Return the last response, which must be the final metrics, with a ledger that balances."""
    metrics = responses[-1].metrics
    assert metrics.final
    assert not any(response.metrics.final for response in responses[:-1])
    assert metrics.received == metrics.accepted + metrics.refused
    assert metrics.accepted == metrics.delivered + metrics.rejected + metrics.dropped + metrics.cancelled
    assert metrics.in_flight == 0
    assert metrics.chunks_processed == metrics.delivered + metrics.rejected
    return metrics


def joined_audio(responses: Iterable[Response], node: str) -> Samples:
    """Join a node's audio of all results end to end, shape (n, channels)."""
    outputs = [each.result.audio_outputs for each in results(responses)]
    return np.concatenate([samples_of(each[node]) for each in outputs if node in each])


def joined_data(responses: Iterable[Response], node: str) -> list[dict[str, Any]]:
    """Return a node's data, one object for each result that has any."""
    outputs = [each.result.data_outputs for each in results(responses)]
    return [json.loads(each[node]) for each in outputs if node in each]


def execute_request(
    manifest: pb.PipelineManifest,
    audio: Mapping[str, pb.AudioBuffer] | None = None,
    data: Mapping[str, str] | None = None,
    client_version: str = "",
    **limits: int,
) -> execution.ExecuteRequest:
    return execution.ExecuteRequest(
        manifest=manifest,
        audio_inputs=audio or {},
        data_inputs=data or {},
        client_version=client_version,
        resource_limits=pb.ResourceLimits(**limits),
    )
