"""Health and reflection against the descriptors that grpcio ships: the same names, numbers and types.

grpcio's descriptors are read in a separate process, because one process can register a package only once.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from protos import health_pb2, reflection_v1_pb2, reflection_v1alpha_pb2

OURS = {
    "grpc_health.v1.health_pb2": health_pb2,
    "grpc_reflection.v1alpha.reflection_pb2": reflection_v1alpha_pb2,
}


def theirs(module: str) -> FileDescriptorProto:
    source = f"import sys, {module} as m; sys.stdout.buffer.write(m.DESCRIPTOR.serialized_pb)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=30, check=False)
    if done.returncode:
        assert b"gencode" in done.stderr, done.stderr
        pytest.skip("grpcio's stubs are generated for a newer protobuf")
    return FileDescriptorProto.FromString(done.stdout)


def shape(message: DescriptorProto) -> object:
    fields = {(f.number, f.name, f.type, f.label, f.type_name, f.HasField("oneof_index")) for f in message.field}
    enums = {(e.name, tuple((v.number, v.name) for v in e.value)) for e in message.enum_type}
    return message.name, fields, enums


def methods(file: FileDescriptorProto) -> set[object]:
    return {
        (s.name, m.name, m.input_type, m.output_type, m.client_streaming, m.server_streaming)
        for s in file.service
        for m in s.method
    }


@pytest.mark.parametrize("module", OURS)
def test_the_same_as_grpcios(module: str) -> None:
    official, ours = theirs(module), FileDescriptorProto.FromString(OURS[module].DESCRIPTOR.serialized_pb)
    assert ours.package == official.package
    shapes = {message.name: shape(message) for message in official.message_type}
    for message in ours.message_type:
        assert shape(message) == shapes[message.name]
    assert methods(ours) <= methods(official)  # of health, newer ones have List as well
    assert {s.name for s in ours.service} == {s.name for s in official.service}


def test_both_versions_of_reflection_are_the_same_messages() -> None:
    one, two = (
        FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for module in (reflection_v1_pb2, reflection_v1alpha_pb2)
    )
    assert one.package == "grpc.reflection.v1"
    assert str(one) == str(two).replace("v1alpha", "v1")
