"""The compiled wire against the data model, typed here by hand and never derived from a .proto file.

Clients of remotemedia.v1 were built against `MODEL`: not one word of it may change. `ADDITIONS` lists the fields added
since. Together they must cover the whole wire.
"""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)

from protos import common_pb2, execution_pb2, streaming_pb2

PACKAGE = "remotemedia.v1"
FILES: list[FileDescriptor] = [module.DESCRIPTOR for module in (common_pb2, execution_pb2, streaming_pb2)]

# message -> "number name type", with "in oneof" where the field belongs to one.
MODEL = {
    "PipelineManifest": [
        "1 version string",
        "2 metadata ManifestMetadata",
        "3 nodes repeated NodeManifest",
        "4 connections repeated Connection",
    ],
    "ManifestMetadata": [
        "1 name string",
        "2 description string",
        "3 created_at string",
    ],
    "NodeManifest": [
        "1 id string",
        "2 node_type string",
        "3 params string",
        "4 is_streaming bool",
        "5 capabilities CapabilityRequirements",
        "6 host string",
        "7 runtime_hint RuntimeHint",
    ],
    "Connection": [
        "1 from string",
        "2 to string",
    ],
    "CapabilityRequirements": [
        "1 gpu GpuRequirement",
        "2 cpu CpuRequirement",
        "3 memory_gb double",
    ],
    "GpuRequirement": [
        "1 type string",
        "2 min_memory_gb double",
        "3 required bool",
    ],
    "CpuRequirement": [
        "1 cores uint32",
        "2 arch string",
    ],
    "AudioBuffer": [
        "1 samples bytes",
        "2 sample_rate uint32",
        "3 channels uint32",
        "4 format AudioFormat",
        "5 num_samples uint64",
    ],
    "ExecutionResult": [
        "1 audio_outputs map<string, AudioBuffer>",
        "2 data_outputs map<string, string>",
        "3 metrics ExecutionMetrics",
        "4 node_results repeated NodeResult",
        "5 status ExecutionStatus",
    ],
    "ExecutionMetrics": [
        "1 wall_time_ms double",
        "2 cpu_time_ms double",
        "3 memory_used_bytes uint64",
        "4 node_metrics map<string, NodeMetrics>",
        "5 serialization_time_ms double",
    ],
    "NodeMetrics": [
        "1 execution_time_ms double",
        "2 memory_bytes uint64",
        "3 samples_processed uint64",
        "4 custom_metrics string",
    ],
    "NodeResult": [
        "1 node_id string",
        "2 status NodeStatus",
        "3 error ErrorResponse",
        "4 output_metadata string",
    ],
    "ErrorResponse": [
        "1 error_type ErrorType",
        "2 message string",
        "3 failing_node_id string",
        "4 context string",
        "5 stack_trace string",
    ],
    "ResourceLimits": [
        "1 max_memory_bytes uint64",
        "2 max_timeout_ms uint64",
        "3 max_audio_samples uint64",
    ],
    "VersionInfo": [
        "1 protocol_version string",
        "2 runtime_version string",
        "3 supported_node_types repeated string",
        "4 supported_protocols repeated string",
        "5 build_timestamp string",
    ],
    "ExecuteRequest": [
        "1 manifest PipelineManifest",
        "2 audio_inputs map<string, AudioBuffer>",
        "3 data_inputs map<string, string>",
        "4 resource_limits ResourceLimits",
        "5 client_version string",
    ],
    "ExecuteResponse": [
        "1 result ExecutionResult in outcome",
        "2 error ErrorResponse in outcome",
    ],
    "StreamRequest": [
        "1 manifest PipelineManifest in request",
        "2 audio_chunk AudioChunk in request",
        "3 control StreamControl in request",
    ],
    "AudioChunk": [
        "1 node_id string",
        "2 buffer AudioBuffer",
        "3 sequence uint64",
    ],
    "StreamControl": [
        "1 command StreamControl.Command",
    ],
    "StreamResponse": [
        "1 ready StreamReady in response",
        "2 result ExecutionResult in response",
        "3 error ErrorResponse in response",
        "4 metrics StreamMetrics in response",
    ],
    "StreamReady": [
        "1 session_id string",
    ],
    "StreamMetrics": [
        "1 chunks_processed uint64",
        "2 average_latency_ms double",
        "3 total_samples uint64",
    ],
    "VersionRequest": [
        "1 client_version string",
    ],
    "VersionResponse": [
        "1 version_info VersionInfo",
        "2 compatible bool",
        "3 compatibility_message string",
    ],
}

ADDITIONS = {
    "StreamRequest": [
        "4 data_chunk DataChunk in request",
        "5 options StreamOptions",
    ],
    "DataChunk": [
        "1 node_id string",
        "2 json string",
        "3 sequence uint64",
        "4 timestamp_ms uint64",
    ],
    "AudioChunk": [
        "4 timestamp_ms uint64",
    ],
    "StreamOptions": [
        "1 resource_limits ResourceLimits",
        "2 client_version string",
        "3 metrics_interval_ms uint32",
        "4 reorder_window uint32",
        "5 reorder_timeout_ms uint32",
        "6 overflow Overflow",
        "7 max_age_ms uint32",
        "8 lean bool",
        "9 input_capacity uint32",
    ],
    "StreamResponse": [
        "6 sequence uint64 in about",
        "7 flush bool",
        "8 timestamp_ms uint64",
    ],
    "StreamReady": [
        "2 recommended_chunk_ms double",
        "3 max_delay_ms double",
        "4 input_capacity uint32",
    ],
    "StreamMetrics": [
        "10 session_id string",
        "11 received uint64",
        "12 accepted uint64",
        "13 delivered uint64",
        "14 rejected uint64",
        "15 refused uint64",
        "16 dropped uint64",
        "17 cancelled uint64",
        "18 missing uint64",
        "19 in_flight uint32",
        "20 p50_latency_ms double",
        "21 p95_latency_ms double",
        "22 p99_latency_ms double",
        "23 max_latency_ms double",
        "24 peak_memory_bytes uint64",
        "25 node_metrics map<string, NodeMetrics>",
        "26 delay_ms double",
        "27 final bool",
    ],
    "NodeMetrics": [
        "5 queue_time_ms double",
        "6 chunks uint64",
        "7 max_execution_time_ms double",
    ],
    "ErrorResponse": [
        "6 retryable bool",
        "7 retry_after_ms uint64",
    ],
    "NodeManifest": [
        "8 is_output bool",
    ],
}

ENUM_MODEL = {
    "RuntimeHint": [
        "0 RUNTIME_HINT_UNSPECIFIED",
        "1 RUNTIME_HINT_RUSTPYTHON",
        "2 RUNTIME_HINT_CPYTHON",
        "3 RUNTIME_HINT_CPYTHON_WASM",
        "4 RUNTIME_HINT_AUTO",
    ],
    "AudioFormat": [
        "0 AUDIO_FORMAT_UNSPECIFIED",
        "1 AUDIO_FORMAT_F32",
        "2 AUDIO_FORMAT_I16",
        "3 AUDIO_FORMAT_I32",
    ],
    "NodeStatus": [
        "0 NODE_STATUS_UNSPECIFIED",
        "1 NODE_STATUS_SUCCESS",
        "2 NODE_STATUS_SKIPPED",
        "3 NODE_STATUS_FAILED",
    ],
    "ExecutionStatus": [
        "0 EXECUTION_STATUS_UNSPECIFIED",
        "1 EXECUTION_STATUS_SUCCESS",
        "2 EXECUTION_STATUS_PARTIAL_SUCCESS",
        "3 EXECUTION_STATUS_FAILED",
    ],
    "ErrorType": [
        "0 ERROR_TYPE_UNSPECIFIED",
        "1 ERROR_TYPE_VALIDATION",
        "2 ERROR_TYPE_NODE_EXECUTION",
        "3 ERROR_TYPE_RESOURCE_LIMIT",
        "4 ERROR_TYPE_AUTHENTICATION",
        "5 ERROR_TYPE_VERSION_MISMATCH",
        "6 ERROR_TYPE_INTERNAL",
    ],
    "StreamControl.Command": [
        "0 COMMAND_UNSPECIFIED",
        "1 COMMAND_CLOSE",
        "2 COMMAND_CANCEL",
    ],
}

ENUM_ADDITIONS = {
    "StreamControl.Command": [
        "3 COMMAND_FLUSH",
    ],
    "Overflow": [
        "0 OVERFLOW_UNSPECIFIED",
        "1 OVERFLOW_BLOCK",
        "2 OVERFLOW_DROP_OLDEST",
        "3 OVERFLOW_DROP_NEWEST",
    ],
}

SERVICES = {
    "PipelineExecutionService": [
        "ExecutePipeline(ExecuteRequest) -> ExecuteResponse",
        "GetVersion(VersionRequest) -> VersionResponse",
    ],
    "StreamingPipelineService": [
        "StreamPipeline(stream StreamRequest) -> stream StreamResponse",
    ],
}

HOMES = {
    "protos/common.proto": set(),
    "protos/execution.proto": {"PipelineExecutionService"},
    "protos/streaming.proto": {"StreamingPipelineService"},
}

_TYPE_NAMES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def _merged(model: dict[str, list[str]], additions: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: model.get(name, []) + additions.get(name, []) for name in model | additions}


def _short(full_name: str) -> str:
    return full_name.removeprefix(f"{PACKAGE}.")


def _type_of(field: FieldDescriptor) -> str:
    if field.enum_type:
        return _short(field.enum_type.full_name)
    if not field.message_type:
        return _TYPE_NAMES[field.type]
    if field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{_type_of(key)}, {_type_of(value)}>"
    return _short(field.message_type.full_name)


def _as_row(field: FieldDescriptor) -> str:
    """Write a field as the tables do."""
    kind = _type_of(field)
    repeated = field.is_repeated and not kind.startswith("map<")
    oneof = f" in {field.containing_oneof.name}" if field.containing_oneof else ""
    return f"{field.number} {field.name} {'repeated ' if repeated else ''}{kind}{oneof}"


def _as_row_of_method(method: MethodDescriptor) -> str:
    takes = ("stream " if method.client_streaming else "") + _short(method.input_type.full_name)
    gives = ("stream " if method.server_streaming else "") + _short(method.output_type.full_name)
    return f"{method.name}({takes}) -> {gives}"


def _nested(message: Descriptor) -> list[Descriptor]:
    """The message and every message declared in it, except the entries of maps."""
    inner = [each for each in message.nested_types if not each.GetOptions().map_entry]
    return [message, *(deeper for each in inner for deeper in _nested(each))]


def _messages() -> dict[str, Descriptor]:
    top = [message for file in FILES for message in file.message_types_by_name.values()]
    return {_short(each.full_name): each for message in top for each in _nested(message)}


def _enums() -> dict[str, EnumDescriptor]:
    top = [enum for file in FILES for enum in file.enum_types_by_name.values()]
    inner = [enum for message in _messages().values() for enum in message.enum_types]
    return {_short(enum.full_name): enum for enum in top + inner}


@pytest.mark.parametrize("name", MODEL | ADDITIONS)
def test_message_has_exactly_the_fields_of_the_tables(name: str) -> None:
    expected = sorted(_merged(MODEL, ADDITIONS)[name])
    assert sorted(_as_row(field) for field in _messages()[name].fields) == expected


@pytest.mark.parametrize("name", ENUM_MODEL | ENUM_ADDITIONS)
def test_enum_has_exactly_the_values_of_the_tables(name: str) -> None:
    written = [f"{value.number} {value.name}" for value in _enums()[name].values]
    assert sorted(written) == sorted(_merged(ENUM_MODEL, ENUM_ADDITIONS)[name])


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_exactly_the_methods_of_the_table(name: str) -> None:
    (service,) = [file.services_by_name[name] for file in FILES if name in file.services_by_name]
    assert service.full_name == f"{PACKAGE}.{name}"
    assert sorted(map(_as_row_of_method, service.methods)) == SERVICES[name]


def test_nothing_is_declared_that_the_tables_do_not_name() -> None:
    assert _messages().keys() == MODEL.keys() | ADDITIONS.keys()
    assert _enums().keys() == ENUM_MODEL.keys() | ENUM_ADDITIONS.keys()
    assert {file.name: set(file.services_by_name) for file in FILES} == HOMES
    assert not any(file.extensions_by_name for file in FILES)


def test_everything_lives_in_the_package_that_clients_know() -> None:
    assert {file.package for file in FILES} == {PACKAGE}


def test_sequence_zero_differs_from_no_sequence() -> None:
    said = streaming_pb2.StreamResponse.FromString(streaming_pb2.StreamResponse(sequence=0).SerializeToString())
    assert said.WhichOneof("about") == "sequence"
    assert streaming_pb2.StreamResponse().WhichOneof("about") is None


def test_the_field_named_like_a_keyword_can_be_set_and_read() -> None:
    connection = common_pb2.Connection(**{"from": "resample", "to": "vad"})
    assert (getattr(connection, "from"), connection.to) == ("resample", "vad")


def test_unary_clients_need_one_module_only() -> None:
    assert execution_pb2.PipelineManifest is common_pb2.PipelineManifest
    assert execution_pb2.AudioBuffer is common_pb2.AudioBuffer
