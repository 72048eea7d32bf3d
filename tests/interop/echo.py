"""gRPC's test service on our server layer: `python -m tests.interop.echo` serves it and prints the port."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

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
from transport.grpc.events import MessageReceived
from transport.grpc.status import StatusCode, StatusError
from transport.server import Server, serve
from transport.server.call import Call, Handler, unary


def handlers() -> dict[str, Handler]:
    return {
        f"/{SERVICE}/EmptyCall": unary(empty_call),
        f"/{SERVICE}/UnaryCall": unary_call,
        f"/{SERVICE}/StreamingInputCall": streaming_input_call,
        f"/{SERVICE}/StreamingOutputCall": streaming_output_call,
        f"/{SERVICE}/FullDuplexCall": full_duplex_call,
    }


async def empty_call(request: bytes, call: Call) -> bytes:
    return bytes(Empty.FromString(request).SerializeToString())


async def unary_call(call: Call) -> None:
    message = await _take(call)
    assert message is not None
    request = SimpleRequest.FromString(message.data)
    _check_compressed(request, message)
    call.compressing = request.response_compressed.value
    _start(call, compressed=request.response_compressed.value)
    _check_status(request)
    await call.send(SimpleResponse(payload={"body": bytes(request.response_size)}).SerializeToString())


async def streaming_input_call(call: Call) -> None:
    size = 0
    while (message := await _take(call)) is not None:
        request = InputRequest.FromString(message.data)
        _check_compressed(request, message)
        size += len(request.payload.body)
    await call.send(InputResponse(aggregated_payload_size=size).SerializeToString())


async def streaming_output_call(call: Call) -> None:
    message = await call.receive()
    assert message is not None
    request = OutputRequest.FromString(message)
    _start(call, compressed=any(each.compressed.value for each in request.response_parameters))
    await _send_all(call, request)


async def full_duplex_call(call: Call) -> None:
    _start(call)
    while (message := await call.receive()) is not None:
        request = OutputRequest.FromString(message)
        _check_status(request)
        await _send_all(call, request)


async def _take(call: Call) -> MessageReceived | None:
    message = await call.take()
    if message is not None:
        call.acknowledge(message)
    return message


async def _send_all(call: Call, request: Any) -> None:
    for each in request.response_parameters:
        if each.interval_us:
            await trio.sleep(each.interval_us / 1e6)
        call.compressing = each.compressed.value
        await call.send(OutputResponse(payload={"body": bytes(each.size)}).SerializeToString())


def _start(call: Call, *, compressed: bool = False) -> None:
    """Echo the metadata of the two echo names, and agree on gzip if the response shall be compressed."""
    if compressed and not call.compress("gzip"):
        raise StatusError(StatusCode.INVALID_ARGUMENT, "a compressed response is wanted, and gzip not taken")
    call.trailing_metadata = tuple(pair for pair in call.metadata if pair[0] == ECHO_TRAILING)
    call.start(tuple(pair for pair in call.metadata if pair[0] == ECHO_INITIAL))


def _check_status(request: Any) -> None:
    if request.response_status.code:
        raise StatusError(StatusCode(request.response_status.code), request.response_status.message)


def _check_compressed(request: Any, message: MessageReceived) -> None:
    compressed = message.encoding is not None
    if request.HasField("expect_compressed") and request.expect_compressed.value != compressed:
        raise StatusError(StatusCode.INVALID_ARGUMENT, f"compressed is {compressed}")


async def _main() -> None:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(serve, handlers()))
        print(server.port, flush=True)


if __name__ == "__main__":
    trio.run(_main)
