"""`grpc.reflection.v1` and `v1alpha`: the server's schema, for tools that have no .proto files.

Rules kept here:
- Only the files of the served services and their imports are visible, not everything that this process has loaded.
- The two versions have the same messages under two package names, so one handler serves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from protos import execution_pb2, health_pb2, reflection_v1_pb2, reflection_v1alpha_pb2, streaming_pb2
from transport.grpc.status import StatusCode, StatusError
from transport.server.call import Call, Handler

__all__ = ["SERVED_FILES", "Reflection"]

SERVED_FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR
    for module in (execution_pb2, streaming_pb2, health_pb2, reflection_v1_pb2, reflection_v1alpha_pb2)
)

_VERSIONS = {"v1": reflection_v1_pb2, "v1alpha": reflection_v1alpha_pb2}


class _NotFound(Exception):
    pass


class Reflection:
    """Reflection of some .proto files.

    Args:
      files: Descriptors of the files that declare the services.
    """

    def __init__(self, files: Iterable[FileDescriptor] = SERVED_FILES) -> None:
        files = tuple(files)
        self._services = sorted(service.full_name for file in files for service in file.services_by_name.values())
        self._files = {each.name: each for file in files for each in _with_imports(file)}
        self._files_by_symbol = {symbol: file for file in self._files.values() for symbol in _symbols(file)}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of both versions, by path."""
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": partial(self._inform, module)
            for version, module in _VERSIONS.items()
        }

    async def _inform(self, pb: Any, call: Call) -> None:
        while (data := await call.receive()) is not None:
            try:
                request = pb.ServerReflectionRequest.FromString(data)
            except DecodeError:
                raise StatusError(StatusCode.INVALID_ARGUMENT, "not a ServerReflectionRequest") from None
            response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            self._answer(request, response)
            await call.send(response.SerializeToString())

    def _answer(self, request: Any, response: Any) -> None:
        try:
            match request.WhichOneof("message_request"):
                case "list_services":
                    for name in self._services:
                        response.list_services_response.service.add(name=name)
                case "file_by_filename":
                    self._add_file(self._files, request.file_by_filename, response)
                case "file_containing_symbol":
                    self._add_file(self._files_by_symbol, request.file_containing_symbol, response)
                case "all_extension_numbers_of_type":
                    self._add_no_extensions(request.all_extension_numbers_of_type, response)
                case "file_containing_extension":
                    raise _NotFound("no message of this server has extensions")
                case _:
                    response.error_response.error_code = StatusCode.INVALID_ARGUMENT
                    response.error_response.error_message = "the request is empty or of an unknown kind"
        except _NotFound as error:
            response.error_response.error_code = StatusCode.NOT_FOUND
            response.error_response.error_message = str(error)

    def _add_file(self, files: Mapping[str, FileDescriptor], name: str, response: Any) -> None:
        if name not in files:
            raise _NotFound(f"this server has no file or symbol {name[:200]!r}")
        for file in _with_imports(files[name]):
            response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)

    def _add_no_extensions(self, message: str, response: Any) -> None:
        """Answer for a top-level message: proto3 messages have no extensions, so the list of numbers stays empty."""
        file = self._files_by_symbol.get(message)
        if file is None or message.removeprefix(f"{file.package}.") not in file.message_types_by_name:
            raise _NotFound(f"this server has no message {message[:200]!r}")
        response.all_extension_numbers_response.base_type_name = message


def _with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """Return the file, followed by all files that it imports, directly or not; each once."""
    found = {file.name: file}
    for imported in file.dependencies:
        for each in _with_imports(imported):
            found.setdefault(each.name, each)
    return list(found.values())


def _symbols(file: FileDescriptor) -> Iterator[str]:
    """Yield the full names declared in a file: services, methods, messages, fields, oneofs, enums and their values."""
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    messages = list(file.message_types_by_name.values())
    enums = list(file.enum_types_by_name.values())
    while messages:
        message = messages.pop()
        yield message.full_name
        yield from (each.full_name for each in message.fields)
        yield from (each.full_name for each in message.oneofs)
        messages += message.nested_types
        enums += message.enum_types
    for enum in enums:
        yield enum.full_name
        scope = enum.full_name.rpartition(".")[0]
        yield from (f"{scope}.{value.name}" for value in enum.values)
