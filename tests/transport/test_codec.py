"""Codec: every message reads back as it was written, and malformed bytes raise nothing but the documented errors."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from engine.errors import ChunkRefused, EngineError, ManifestInvalid, NodeFailed, ProtocolMisuse, SamplesLimitExceeded
from engine.limits import Overflow, ResourceLimits, SessionOptions
from engine.manifest import Capabilities, Connection, Cpu, Gpu, Manifest, NodeSpec, manifest_from_dict
from engine.messages import (
    BadChunk,
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
from transport.codec.audio import decode_audio, encode_audio
from transport.codec.details import pack
from transport.codec.errors import RemoteError, decode_remote_error, end_status
from transport.codec.events import decode_event, decode_ready, encode_error, encode_metrics, encode_ready
from transport.codec.requests import (
    decode_audio_chunk,
    decode_data,
    decode_data_chunk,
    decode_limits,
    decode_manifest,
    decode_options,
    encode_chunk,
    encode_manifest,
    encode_open,
    parse,
)
from transport.codec.results import decode_execute_response, encode_execute_response, encode_result
from transport.grpc.status import StatusCode

uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | finite | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, json_values, max_size=4)

SAMPLES = {
    "float32": st.floats(-(2.0**100), 2.0**100, width=32),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
}


@st.composite
def audios(draw: Callable[..., Any]) -> Audio:
    dtype = draw(st.sampled_from(sorted(SAMPLES)))
    shape = (draw(st.integers(0, 20)), draw(st.sampled_from([1, 2, 3, 6, 128])))
    frames = draw(np_st.arrays(dtype, shape, elements=SAMPLES[dtype]))
    return Audio(frames, draw(st.integers(1, 768_000)))


def same_audio(one: Audio, other: Audio) -> None:
    assert (one.sample_rate, one.sample_format, one.channels) == (
        other.sample_rate,
        other.sample_format,
        other.channels,
    )
    np.testing.assert_array_equal(one.frames, other.frames)


# ---- audio


@given(audios())
def test_audio_round_trip(audio: Audio) -> None:
    wire = pb.AudioBuffer()
    encode_audio(audio, wire)
    assert wire.num_samples == audio.samples
    same_audio(decode_audio(pb.AudioBuffer.FromString(wire.SerializeToString())), audio)


@pytest.mark.parametrize(
    ("form", "dtype", "raw", "expected"),
    [
        (1, "float32", "0000803f 000000bf", [1.0, -0.5]),
        (2, "int16", "0100 ff7f 0080", [1, 32767, -32768]),
        (3, "int32", "01000000 00000080", [1, -(2**31)]),
    ],
)
def test_samples_are_little_endian(form: int, dtype: str, raw: str, expected: list[float]) -> None:
    samples = bytes.fromhex(raw)
    wire = pb.AudioBuffer(samples=samples, sample_rate=8_000, channels=1, format=form, num_samples=len(expected))  # type: ignore[arg-type]
    audio = decode_audio(wire)
    assert audio.frames.dtype == np.dtype(dtype)
    assert audio.frames[:, 0].tolist() == expected
    again = pb.AudioBuffer()
    encode_audio(audio, again)
    assert again == wire


def test_samples_are_interleaved() -> None:
    wire = pb.AudioBuffer(samples=bytes([1, 0, 2, 0, 3, 0, 4, 0]), sample_rate=1, channels=2, format=2, num_samples=4)  # type: ignore[arg-type]
    assert decode_audio(wire).frames.tolist() == [[1, 2], [3, 4]]


def test_samples_are_viewed_and_cannot_be_written() -> None:
    wire = pb.AudioBuffer(samples=b"\1\0" * 4, sample_rate=1, channels=1, format=2, num_samples=4)  # type: ignore[arg-type]
    frames = decode_audio(wire).frames
    assert not frames.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 7


def test_a_view_of_other_memory_is_written_as_it_reads() -> None:
    frames = np.arange(24, dtype=np.int16).reshape(12, 2)[::3, ::-1]
    wire = pb.AudioBuffer()
    encode_audio(Audio(frames, 8_000), wire)
    np.testing.assert_array_equal(decode_audio(wire).frames, frames)


@given(
    samples=st.binary(max_size=64),
    rate=st.sampled_from([0, 1, 16_000, 768_000, 768_001, 2**32 - 1]) | uint32,
    channels=st.sampled_from([0, 1, 2, 3, 128, 129, 2**32 - 1]) | uint32,
    form=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 4),
    count=uint64 | st.integers(0, 40),
)
@example(b"", 16_000, 1, 1, 0)
def test_any_buffer_is_audio_or_refused(samples: bytes, rate: int, channels: int, form: int, count: int) -> None:
    wire = pb.AudioBuffer(samples=samples, sample_rate=rate, channels=channels, format=form, num_samples=count)  # type: ignore[arg-type]
    try:
        audio = decode_audio(wire)
    except ChunkRefused:
        return
    assert audio.samples == count
    assert (audio.sample_rate, audio.channels) == (rate, channels)
    assert audio.frames.nbytes == len(samples)


# ---- bytes from anywhere


def decode_everything(request: streaming.StreamRequest) -> None:
    """Decode a request in every way that the service does, whatever the request holds."""
    with contextlib.suppress(ManifestInvalid):
        decode_manifest(request.manifest)
    decode_options(request.options)
    decode_limits(request.options.resource_limits)
    assert isinstance(decode_audio_chunk(request.audio_chunk, 0.0, 0.0), (Chunk, BadChunk))
    assert isinstance(decode_data_chunk(request.data_chunk, 0.0, 0.0), (Chunk, BadChunk))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_misuse(data: bytes) -> None:
    for empty in (streaming.StreamRequest(), execution.ExecuteRequest(), execution.VersionRequest()):
        with contextlib.suppress(ProtocolMisuse):
            parse(empty, data)
    with contextlib.suppress(ProtocolMisuse):
        decode_everything(parse(streaming.StreamRequest(), data))


def request_bytes() -> list[bytes]:
    spec = NodeSpec("a", "Gain", {"gain_db": 3}, capabilities=Capabilities(Gpu("cuda"), Cpu(2, "x86_64"), 1.0))
    opening = encode_open(Manifest("v1", (spec,)), ResourceLimits(1, 2, 3), SessionOptions(lean=True))
    audio = encode_chunk(Chunk(Audio(np.ones((4, 2), np.int16), 8_000), 5, "a", 6))
    return [opening, audio, encode_chunk(Chunk(Data({"k": [1, None]}), 7))]


@settings(max_examples=200)
@given(
    st.sampled_from(request_bytes()),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_a_garbled_request_is_decoded_or_refused(data: bytes, flips: list[tuple[int, int]], length: int) -> None:
    garbled = bytearray(data)
    for place, value in flips:
        garbled[place % len(garbled)] = value
    with contextlib.suppress(ProtocolMisuse):
        decode_everything(parse(streaming.StreamRequest(), bytes(garbled[: length or None])))


@given(st.binary(max_size=200))
def test_a_client_survives_any_answer(data: bytes) -> None:
    decode_remote_error(data, StatusCode.INTERNAL)
    response, reply = streaming.StreamResponse(), execution.ExecuteResponse()
    for message, decode in ((response, decode_event), (reply, decode_execute_response)):
        try:
            parse(message, data)
        except ProtocolMisuse:
            continue
        with contextlib.suppress(ChunkRefused, RemoteError):
            decode(message)  # type: ignore[operator]


# ---- manifests

specs = st.builds(
    NodeSpec,
    id=names,
    node_type=names,
    params=objects.map(json.dumps),
    is_streaming=st.booleans(),
    capabilities=st.none()
    | st.builds(
        Capabilities,
        gpu=st.none() | st.builds(Gpu, names, finite, st.booleans()),
        cpu=st.none() | st.builds(Cpu, uint32, names),
        memory_gb=finite,
    ),
    host=names,
    runtime_hint=st.sampled_from(["", "rustpython", "cpython", "cpython_wasm", "auto"]),
    is_output=st.booleans(),
)
manifests = st.builds(
    Manifest,
    names,
    st.lists(specs, max_size=4).map(tuple),
    st.lists(st.builds(Connection, names, names), max_size=4).map(tuple),
    names,
    names,
    names,
)


@given(manifests)
def test_manifest_round_trip(manifest: Manifest) -> None:
    wire = encode_manifest(manifest)
    assert decode_manifest(pb.PipelineManifest.FromString(wire.SerializeToString())) == manifest


@given(objects)
def test_params_round_trip(params: dict[str, Any]) -> None:
    decoded = decode_manifest(encode_manifest(Manifest("v1", (NodeSpec("a", "T", params),))))
    assert isinstance(decoded.nodes[0].params, str)
    assert json.loads(decoded.nodes[0].params) == params


def test_a_manifest_from_a_dict_is_the_same_over_the_wire() -> None:
    told = {
        "version": "v1",
        "metadata": {"name": "n", "description": "d", "created_at": "2025-10-28T10:30:00Z"},
        "nodes": [
            {"id": "in", "node_type": "PassThrough", "host": "there", "runtime_hint": "RUNTIME_HINT_CPYTHON"},
            {
                "id": "vad",
                "node_type": "VAD",
                "params": '{"aggressiveness": 3}',
                "is_streaming": True,
                "is_output": True,
                "capabilities": {
                    "gpu": {"type": "cuda", "min_memory_gb": 2, "required": False},
                    "cpu": {"cores": 1, "arch": "x86_64"},
                    "memory_gb": 0.5,
                },
            },
        ],
        "connections": [{"from": "in", "to": "vad"}],
    }
    wire = encode_manifest(manifest_from_dict(told))
    expected = pb.PipelineManifest(
        version="v1",
        metadata=pb.ManifestMetadata(name="n", description="d", created_at="2025-10-28T10:30:00Z"),
        nodes=[
            pb.NodeManifest(
                id="in", node_type="PassThrough", params="{}", host="there", runtime_hint=pb.RUNTIME_HINT_CPYTHON
            ),
            pb.NodeManifest(
                id="vad",
                node_type="VAD",
                params='{"aggressiveness": 3}',
                is_streaming=True,
                is_output=True,
                capabilities=pb.CapabilityRequirements(
                    gpu=pb.GpuRequirement(type="cuda", min_memory_gb=2),
                    cpu=pb.CpuRequirement(cores=1, arch="x86_64"),
                    memory_gb=0.5,
                ),
            ),
        ],
        connections=[pb.Connection(**{"from": "in", "to": "vad"})],
    )
    assert wire == expected


def test_a_manifest_that_is_too_large() -> None:
    wire = encode_manifest(Manifest("v1", (NodeSpec("a", "T", "x" * (1 << 20)),)))
    with pytest.raises(ManifestInvalid, match="bytes; the limit is 1048576"):
        decode_manifest(wire)


def test_a_runtime_hint_from_the_future_is_none() -> None:
    wire = pb.PipelineManifest(nodes=[pb.NodeManifest(runtime_hint=99)])  # type: ignore[arg-type]
    assert decode_manifest(wire).nodes[0].runtime_hint == ""


# ---- options and limits


@given(
    st.builds(ResourceLimits, uint64, uint64, uint64),
    st.builds(
        SessionOptions,
        input_capacity=uint32,
        reorder_window=uint32,
        reorder_timeout_ms=uint32,
        overflow=st.sampled_from(Overflow),
        max_age_ms=uint32,
        metrics_interval_ms=uint32,
        lean=st.booleans(),
    ),
)
def test_opening_round_trip(limits: ResourceLimits, options: SessionOptions) -> None:
    manifest = Manifest("v1", (NodeSpec("a", "T", "{}"),))
    request = parse(streaming.StreamRequest(), encode_open(manifest, limits, options))
    assert request.WhichOneof("request") == "manifest"
    assert request.options.client_version == "v1"
    assert decode_manifest(request.manifest) == manifest
    assert decode_limits(request.options.resource_limits) == limits
    assert decode_options(request.options) == options


@pytest.mark.parametrize("overflow", [0, 1, 99])
def test_an_overflow_that_is_not_known_blocks(overflow: int) -> None:
    assert decode_options(streaming.StreamOptions(overflow=overflow)).overflow is Overflow.BLOCK  # type: ignore[arg-type]


# ---- chunks


@given(audios(), uint64, names, uint64)
def test_audio_chunk_round_trip(audio: Audio, sequence: int, source: str, timestamp_ms: int) -> None:
    request = parse(streaming.StreamRequest(), encode_chunk(Chunk(audio, sequence, source, timestamp_ms)))
    chunk = decode_audio_chunk(request.audio_chunk, 1.5, 0.0)
    assert isinstance(chunk, Chunk)
    assert (chunk.sequence, chunk.source, chunk.timestamp_ms) == (sequence, source, timestamp_ms)
    assert chunk.received_at == 1.5
    assert chunk.nbytes == audio.frames.nbytes
    same_audio(chunk.item, audio)  # type: ignore[arg-type]


@given(objects, uint64, names, uint64)
def test_data_chunk_round_trip(value: dict[str, Any], sequence: int, source: str, timestamp_ms: int) -> None:
    request = parse(streaming.StreamRequest(), encode_chunk(Chunk(Data(value), sequence, source, timestamp_ms)))
    chunk = decode_data_chunk(request.data_chunk, 1.5, 0.0)
    assert isinstance(chunk, Chunk)
    assert (chunk.sequence, chunk.source, chunk.timestamp_ms) == (sequence, source, timestamp_ms)
    assert chunk.item == Data(value)
    assert chunk.nbytes == chunk.data_bytes == len(request.data_chunk.json)


@given(st.text(max_size=60) | st.text('{}[]",:0123456789eE+-.NaInfity\\ud8 ', max_size=40))
def test_any_text_is_data_or_refused(text: str) -> None:
    with contextlib.suppress(ChunkRefused):
        json.dumps(decode_data(text).value, allow_nan=False, ensure_ascii=False).encode()


def test_a_bad_chunk_keeps_its_number_and_its_source() -> None:
    bad = decode_audio_chunk(streaming.AudioChunk(sequence=9, node_id="x"), 0.0, 0.0)
    assert isinstance(bad, BadChunk)
    assert (bad.sequence, bad.source) == (9, "x")
    bad = decode_data_chunk(streaming.DataChunk(sequence=9, node_id="x", json="{"), 0.0, 0.0)
    assert isinstance(bad, BadChunk)
    assert (bad.sequence, bad.source) == (9, "x")


# ---- answers


figures = st.builds(
    NodeFigures,
    run_ms=finite,
    queue_ms=finite,
    max_run_ms=finite,
    chunks=uint64,
    samples=uint64,
    memory_bytes=uint64,
    custom_metrics=objects.map(json.dumps),
)


@st.composite
def results(draw: Callable[..., Any]) -> Result:
    outputs = st.builds(Output, st.none() | audios(), st.none() | objects.map(Data))
    return Result(
        sequence=draw(st.none() | uint64),
        flush=draw(st.booleans()),
        outputs=draw(st.dictionaries(names, outputs, max_size=2)),
        status=draw(st.sampled_from(Status)),
        nodes=draw(st.lists(st.builds(NodeOutcome, names, st.sampled_from(NodeStatus), metadata=names), max_size=3)),
        figures=draw(st.dictionaries(names, figures, max_size=2)),
        wall_ms=draw(st.floats(0, 1e6)),
        cpu_ms=draw(st.floats(0, 1e6)),
        memory_bytes=draw(uint64),
        parse_ms=draw(st.floats(0, 1e6)),
        timestamp_ms=draw(uint64),
    )


def through(response: streaming.StreamResponse) -> Any:
    return decode_event(streaming.StreamResponse.FromString(response.SerializeToString()))


@given(results())
def test_result_round_trip(result: Result) -> None:
    got = through(encode_result(result))
    told = {name: output for name, output in result.outputs.items() if output.audio or output.data}
    assert set(got.outputs) == set(told)
    for name, output in told.items():
        if output.audio is None:
            assert got.outputs[name].audio is None
        else:
            same_audio(got.outputs[name].audio, output.audio)
        assert got.outputs[name].data == output.data
    assert (got.sequence, got.flush, got.timestamp_ms) == (result.sequence, result.flush, result.timestamp_ms)
    assert (got.status, got.nodes, got.figures) == (result.status, result.nodes, result.figures)
    assert got.memory_bytes == result.memory_bytes
    assert got.wall_ms >= result.wall_ms
    assert got.parse_ms >= result.parse_ms  # the time to build the answer is added
    assert got.cpu_ms >= result.cpu_ms


@given(results())
def test_unary_result_round_trip(result: Result) -> None:
    reply = encode_execute_response(result)
    got = decode_execute_response(execution.ExecuteResponse.FromString(reply.SerializeToString()))
    assert (got.status, got.nodes, got.figures) == (result.status, result.nodes, result.figures)
    assert (got.sequence, got.flush) == (None, True)


@given(
    st.builds(
        SessionMetrics,
        session_id=names,
        final=st.booleans(),
        **dict.fromkeys(
            ["received", "accepted", "refused", "delivered", "dropped", "cancelled", "missing", "total_samples"], uint64
        ),
        rejected=st.just(0),
        in_flight=uint32,
        peak_memory_bytes=uint64,
        **dict.fromkeys(
            ["average_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms", "max_latency_ms", "delay_ms"],
            finite,
        ),
        figures=st.dictionaries(names, figures, max_size=2),
    )
)
def test_metrics_round_trip(metrics: SessionMetrics) -> None:
    response = encode_metrics(metrics)
    assert response.metrics.chunks_processed == metrics.delivered
    assert through(response) == metrics


def test_ready_round_trip() -> None:
    ready = Ready("id", 1.5, 7, 30.0)
    assert decode_ready(encode_ready(ready).ready) == ready


def test_what_answers_no_chunk_has_no_number() -> None:
    none = encode_result(Result(sequence=None, flush=True, outputs={}))
    zero = encode_result(Result(sequence=0, flush=False, outputs={}))
    assert none.WhichOneof("about") is None
    assert zero.WhichOneof("about") == "sequence"
    assert through(none).sequence is None
    assert through(zero).sequence == 0
    assert encode_error(ProtocolMisuse("no")).WhichOneof("about") is None


@pytest.mark.parametrize("error", [SamplesLimitExceeded, NodeFailed, ProtocolMisuse])
def test_error_round_trip(error: type[EngineError]) -> None:
    raised = error("so it is", node_id="n", sequence=3, context={"limit": 5}, stack_trace="trace")
    got = through(encode_error(raised))
    assert isinstance(got, RemoteError)
    assert (got.message, got.node_id, got.sequence, got.context) == ("so it is", "n", 3, {"limit": 5})
    assert got.category is raised.category
    assert got.stack_trace == ""
    assert through(encode_error(raised, debug=True)).stack_trace == "trace"

    with pytest.raises(RemoteError, match="so it is"):
        decode_execute_response(encode_execute_response(raised))
    status = end_status(raised)
    ended = decode_remote_error(status.details, status.code)
    assert ended is not None
    assert (ended.message, ended.code) == ("so it is", status.code)


def test_details_that_are_not_the_services_are_no_error_of_its() -> None:
    mine = end_status(NodeFailed("so it is")).details
    for details, code in (
        (b"", StatusCode.INTERNAL),
        (b"\xff\xff", StatusCode.INTERNAL),
        (mine[:-1], StatusCode.INTERNAL),
        (mine, StatusCode.UNAVAILABLE),
        (pb.ErrorResponse(error_type=pb.ERROR_TYPE_INTERNAL).SerializeToString(), StatusCode.INTERNAL),
        (pack(StatusCode.INTERNAL, "", pb.ErrorResponse(message="?")), StatusCode.INTERNAL),
        (status_with(empty_pb2.Empty()), StatusCode.INTERNAL),
        (status_with(pb.ErrorResponse(message="?"), b"\xff\xff"), StatusCode.INTERNAL),
    ):
        assert decode_remote_error(details, code) is None


@given(st.binary(max_size=40), st.integers(0, 100))
def test_details_of_whatever_bytes_break_no_client(noise: bytes, at: int) -> None:
    mine = end_status(NodeFailed("so it is")).details
    decode_remote_error(noise, StatusCode.INTERNAL)
    decode_remote_error(mine[:at] + noise + mine[at + len(noise) :], StatusCode.INTERNAL)


def status_with(message: Message, value: bytes | None = None) -> bytes:
    """Encode a `google.rpc.Status` with this message as its only detail, or with `value` under its type name."""
    status = status_pb2.Status(code=StatusCode.INTERNAL)
    status.details.add().Pack(message)
    if value is not None:
        status.details[0].value = value
    return status.SerializeToString()


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"bytes"])
def test_data_that_is_not_json_is_its_nodes_failure(value: Any) -> None:
    result = Result(sequence=4, flush=False, outputs={"n": Output(data=Data({"value": value}))})
    with pytest.raises(NodeFailed, match="node 'n' emitted data that is not JSON") as failed:
        encode_result(result)
    assert (failed.value.node_id, failed.value.sequence) == ("n", 4)


def test_an_event_from_the_future_is_none() -> None:
    assert decode_event(streaming.StreamResponse()) is None


def test_encoded_messages_are_the_documented_ones() -> None:
    made: list[Message] = [
        encode_ready(Ready("id", 0.0, 1)),
        encode_execute_response(Result(sequence=None, flush=True, outputs={})),
    ]
    assert [message.DESCRIPTOR.full_name for message in made] == [
        "remotemedia.v1.StreamResponse",
        "remotemedia.v1.ExecuteResponse",
    ]
