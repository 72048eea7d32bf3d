"""The messages of gRPC's interoperability tests (`grpc.testing`), made at run time: no generated code, no compiler.

The fields are those of `messages.proto` in gRPC's repository that our cases use, with its names and numbers.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "grpc.testing"
SERVICE = f"{PACKAGE}.TestService"

_INT, _BOOL, _STRING, _BYTES = (
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
)

_FIELDS: dict[str, dict[str, tuple[int, int | str]]] = {
    "Empty": {},
    "BoolValue": {"value": (1, _BOOL)},
    "Payload": {"type": (1, _INT), "body": (2, _BYTES)},  # the enum has one value, 0
    "EchoStatus": {"code": (1, _INT), "message": (2, _STRING)},
    "SimpleRequest": {
        "response_size": (2, _INT),
        "payload": (3, "Payload"),
        "response_compressed": (6, "BoolValue"),
        "response_status": (7, "EchoStatus"),
        "expect_compressed": (8, "BoolValue"),
    },
    "SimpleResponse": {"payload": (1, "Payload")},
    "StreamingInputCallRequest": {"payload": (1, "Payload"), "expect_compressed": (2, "BoolValue")},
    "StreamingInputCallResponse": {"aggregated_payload_size": (1, _INT)},
    "ResponseParameters": {"size": (1, _INT), "interval_us": (2, _INT), "compressed": (3, "BoolValue")},
    "StreamingOutputCallRequest": {
        "response_parameters": (2, "[ResponseParameters]"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
    },
    "StreamingOutputCallResponse": {"payload": (1, "Payload")},
}


def _make() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="tests/interop/messages.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=1)
            if isinstance(kind, int):
                added.type = kind  # type: ignore[assignment]
                continue
            added.label = 3 if kind.startswith("[") else 1
            added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
            added.type_name = f".{PACKAGE}.{kind.strip('[]')}"
    pool = descriptor_pool.DescriptorPool()
    made = pool.Add(file) or pool.FindFileByName(file.name)
    return {name: message_factory.GetMessageClass(made.message_types_by_name[name]) for name in _FIELDS}


_CLASSES = _make()

Empty: Any = _CLASSES["Empty"]
SimpleRequest: Any = _CLASSES["SimpleRequest"]
SimpleResponse: Any = _CLASSES["SimpleResponse"]
InputRequest: Any = _CLASSES["StreamingInputCallRequest"]
InputResponse: Any = _CLASSES["StreamingInputCallResponse"]
OutputRequest: Any = _CLASSES["StreamingOutputCallRequest"]
OutputResponse: Any = _CLASSES["StreamingOutputCallResponse"]

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
