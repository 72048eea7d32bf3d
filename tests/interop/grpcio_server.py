"""gRPC's test service on grpcio: `python -m tests.interop.grpcio_server` serves it and prints the port."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tests.interop.messages import (
    ECHO_INITIAL,
    ECHO_TRAILING,
    SERVICE,
    Empty,
    InputRequest,
    InputResponse,
    OutputRequest,
    OutputResponse,
    SimpleRequest,
    SimpleResponse,
)

_STATUSES = {code.value[0]: code for code in grpc.StatusCode}


def empty_call(request: Any, context: grpc.ServicerContext) -> Any:
    return Empty()


def unary_call(request: Any, context: grpc.ServicerContext) -> Any:
    if request.response_compressed.value:
        context.set_compression(grpc.Compression.Gzip)
    _start(context)
    _check_status(request, context)
    return SimpleResponse(payload={"body": bytes(request.response_size)})


def streaming_input_call(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
    return InputResponse(aggregated_payload_size=sum(len(request.payload.body) for request in requests))


def streaming_output_call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    if any(each.compressed.value for each in request.response_parameters):
        context.set_compression(grpc.Compression.Gzip)
    yield from _responses(request, context)


def full_duplex_call(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    _start(context)
    for request in requests:
        _check_status(request, context)
        yield from _responses(request, context)


def _responses(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    for each in request.response_parameters:
        if each.interval_us:
            time.sleep(each.interval_us / 1e6)
        if not each.compressed.value:
            context.disable_next_message_compression()
        yield OutputResponse(payload={"body": bytes(each.size)})


def _start(context: grpc.ServicerContext) -> None:
    metadata = context.invocation_metadata()
    context.send_initial_metadata([(each.key, each.value) for each in metadata if each.key == ECHO_INITIAL])
    context.set_trailing_metadata([(each.key, each.value) for each in metadata if each.key == ECHO_TRAILING])


def _check_status(request: Any, context: grpc.ServicerContext) -> None:
    if request.response_status.code:
        context.abort(_STATUSES[request.response_status.code], request.response_status.message)


_METHODS = {
    "EmptyCall": grpc.unary_unary_rpc_method_handler(empty_call, Empty.FromString, Empty.SerializeToString),
    "UnaryCall": grpc.unary_unary_rpc_method_handler(
        unary_call, SimpleRequest.FromString, SimpleResponse.SerializeToString
    ),
    "StreamingInputCall": grpc.stream_unary_rpc_method_handler(
        streaming_input_call, InputRequest.FromString, InputResponse.SerializeToString
    ),
    "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(
        streaming_output_call, OutputRequest.FromString, OutputResponse.SerializeToString
    ),
    "FullDuplexCall": grpc.stream_stream_rpc_method_handler(
        full_duplex_call, OutputRequest.FromString, OutputResponse.SerializeToString
    ),
}


def main() -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, _METHODS)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
