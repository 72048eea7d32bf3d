"""gRPC's interoperability test cases for our client; each takes a channel to any implementation of the test service.

Names and steps are those of gRPC's `doc/interop-test-descriptions.md`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.interop.messages import (
    ECHO_INITIAL,
    ECHO_TRAILING,
    PACKAGE,
    REQUEST_SIZES,
    RESPONSE_SIZES,
    SERVICE,
    SPECIAL_MESSAGE,
    Empty,
    InputRequest,
    InputResponse,
    OutputRequest,
    OutputResponse,
    SimpleRequest,
    SimpleResponse,
)
from transport.client.channel import Channel, ClientCall
from transport.client.errors import CallCancelled, DeadlineExceeded, InvalidArgument, Unimplemented, UnknownError
from transport.grpc.status import StatusCode

TIMEOUT_S = 60.0

LARGE = SimpleRequest(response_size=314_159, payload={"body": bytes(271_828)})


@asynccontextmanager
async def calling(channel: Channel, method: str, **how: Any) -> AsyncIterator[ClientCall]:
    async with channel.call(f"/{SERVICE}/{method}", **{"timeout_s": TIMEOUT_S, **how}) as call:
        yield call


async def ask(call: ClientCall, request: Any, kind: Any) -> Any:
    """Send one message and return the one answer."""
    await call.send(request.SerializeToString())
    call.half_close()
    answer = await call.receive()
    assert answer is not None
    assert await call.receive() is None
    return kind.FromString(answer)


async def unary(channel: Channel, request: Any, **how: Any) -> Any:
    async with calling(channel, "UnaryCall", **how) as call:
        return await ask(call, request, SimpleResponse)


def output_request(*sizes: int, **fields: Any) -> Any:
    return OutputRequest(response_parameters=[{"size": size} for size in sizes], **fields)


async def empty_unary(channel: Channel) -> None:
    async with calling(channel, "EmptyCall") as call:
        assert await ask(call, Empty(), Empty) == Empty()


async def large_unary(channel: Channel) -> None:
    response = await unary(channel, LARGE)
    assert response.payload.body == bytes(314_159)


async def client_streaming(channel: Channel) -> None:
    async with calling(channel, "StreamingInputCall") as call:
        for size in REQUEST_SIZES[:-1]:
            await call.send(InputRequest(payload={"body": bytes(size)}).SerializeToString())
        response = await ask(call, InputRequest(payload={"body": bytes(REQUEST_SIZES[-1])}), InputResponse)
        assert response.aggregated_payload_size == 74_922


async def server_streaming(channel: Channel) -> None:
    async with calling(channel, "StreamingOutputCall") as call:
        await call.send(output_request(*RESPONSE_SIZES).SerializeToString())
        call.half_close()
        for size in RESPONSE_SIZES:
            assert OutputResponse.FromString(await call.receive()).payload.body == bytes(size)
        assert await call.receive() is None


async def ping_pong(channel: Channel) -> None:
    async with calling(channel, "FullDuplexCall") as call:
        for there, back in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
            await call.send(output_request(back, payload={"body": bytes(there)}).SerializeToString())
            assert OutputResponse.FromString(await call.receive()).payload.body == bytes(back)
        call.half_close()
        assert await call.receive() is None


async def empty_stream(channel: Channel) -> None:
    async with calling(channel, "FullDuplexCall") as call:
        call.half_close()
        assert await call.receive() is None
        assert (await call.status()).code is StatusCode.OK


async def cancel_after_begin(channel: Channel) -> None:
    async with calling(channel, "StreamingInputCall") as call:
        call.cancel()
        with pytest.raises(CallCancelled):
            await call.receive()


async def cancel_after_first_response(channel: Channel) -> None:
    async with calling(channel, "FullDuplexCall") as call:
        request = output_request(RESPONSE_SIZES[0], payload={"body": bytes(REQUEST_SIZES[0])})
        await call.send(request.SerializeToString())
        assert await call.receive() is not None
        call.cancel()
        with pytest.raises(CallCancelled):
            await call.receive()


async def timeout_on_sleeping_server(channel: Channel) -> None:
    async def wait() -> None:
        async with calling(channel, "FullDuplexCall", timeout_s=0.001) as call:
            await call.send(OutputRequest(payload={"body": bytes(27_182)}).SerializeToString())
            await call.receive()

    with pytest.raises(DeadlineExceeded):
        await wait()


async def custom_metadata(channel: Channel) -> None:
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))

    async def check(call: ClientCall) -> None:
        assert metadata[0] in await call.initial_metadata()
        assert metadata[1] in (await call.status()).metadata

    async with calling(channel, "UnaryCall", metadata=metadata) as call:
        await ask(call, LARGE, SimpleResponse)
        await check(call)
    async with calling(channel, "FullDuplexCall", metadata=metadata) as call:
        await ask(call, output_request(314_159), OutputResponse)
        await check(call)


async def status_code_and_message(channel: Channel) -> None:
    await _status(channel, "test status message")


async def special_status_message(channel: Channel) -> None:
    await _status(channel, SPECIAL_MESSAGE)


async def _status(channel: Channel, message: str) -> None:
    echo = {"code": 2, "message": message}
    with pytest.raises(UnknownError) as failed:
        await unary(channel, SimpleRequest(response_status=echo))
    assert failed.value.message == message
    async with calling(channel, "FullDuplexCall") as call:
        await call.send(OutputRequest(response_status=echo).SerializeToString())
        call.half_close()
        with pytest.raises(UnknownError) as failed:
            await call.receive()
        assert failed.value.message == message


async def unimplemented_method(channel: Channel) -> None:
    await _unimplemented(channel, f"/{SERVICE}/UnimplementedCall")


async def unimplemented_service(channel: Channel) -> None:
    await _unimplemented(channel, f"/{PACKAGE}.UnimplementedService/UnimplementedCall")


async def _unimplemented(channel: Channel, path: str) -> None:
    async with channel.call(path, timeout_s=TIMEOUT_S) as call:
        with pytest.raises(Unimplemented):
            await ask(call, Empty(), Empty)


async def client_compressed_unary(channel: Channel) -> None:
    """Send a compressed and an uncompressed request; `compression_probes` has the case's probes."""
    for compressed in (True, False):
        request = SimpleRequest(expect_compressed={"value": compressed})
        request.MergeFrom(LARGE)
        async with calling(channel, "UnaryCall", encoding="gzip") as call:
            call.compressing = compressed
            response = await ask(call, request, SimpleResponse)
            assert response.payload.body == bytes(314_159)


async def client_compressed_streaming(channel: Channel) -> None:
    async with calling(channel, "StreamingInputCall", encoding="gzip") as call:
        request = InputRequest(payload={"body": bytes(27_182)}, expect_compressed={"value": True})
        await call.send(request.SerializeToString())
        call.compressing = False
        request = InputRequest(payload={"body": bytes(45_904)}, expect_compressed={"value": False})
        assert (await ask(call, request, InputResponse)).aggregated_payload_size == 73_086


async def compression_probes(channel: Channel) -> None:
    """The probes of client_compressed_*; only servers that can see whether a message was compressed pass them."""
    for method, request in (
        ("UnaryCall", SimpleRequest(expect_compressed={"value": True}, payload=LARGE.payload)),
        ("StreamingInputCall", InputRequest(expect_compressed={"value": True}, payload=LARGE.payload)),
    ):
        async with calling(channel, method) as call:
            with pytest.raises(InvalidArgument):
                await ask(call, request, SimpleResponse)


async def server_compressed_unary(channel: Channel) -> None:
    for compressed in (True, False):
        request = SimpleRequest(response_compressed={"value": compressed})
        request.MergeFrom(LARGE)
        async with calling(channel, "UnaryCall") as call:
            await call.send(request.SerializeToString())
            call.half_close()
            message = await call.take()
            assert message is not None
            assert (message.encoding is not None) is compressed
            assert SimpleResponse.FromString(message.data).payload.body == bytes(314_159)


async def server_compressed_streaming(channel: Channel) -> None:
    wanted = {31_415: True, 92_653: False}
    parameters = [{"size": size, "compressed": {"value": value}} for size, value in wanted.items()]
    async with calling(channel, "StreamingOutputCall") as call:
        await call.send(OutputRequest(response_parameters=parameters).SerializeToString())
        call.half_close()
        for size, compressed in wanted.items():
            message = await call.take()
            assert message is not None
            call.acknowledge(message)
            assert (message.encoding is not None) is compressed
            assert OutputResponse.FromString(message.data).payload.body == bytes(size)
        assert await call.receive() is None


CASES: dict[str, Callable[[Channel], Awaitable[None]]] = {
    case.__name__: case
    for case in (
        empty_unary,
        large_unary,
        client_streaming,
        server_streaming,
        ping_pong,
        empty_stream,
        cancel_after_begin,
        cancel_after_first_response,
        timeout_on_sleeping_server,
        custom_metadata,
        status_code_and_message,
        special_status_message,
        unimplemented_method,
        unimplemented_service,
        client_compressed_unary,
        client_compressed_streaming,
        server_compressed_unary,
        server_compressed_streaming,
    )
}

__all__ = ["CASES", "compression_probes"]
