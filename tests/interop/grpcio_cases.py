"""gRPC's interoperability test cases for grpcio's clients: `python -m tests.interop.grpcio_cases PORT sync|aio`.

Runs all cases and prints a line for each: `NAME ok`, or `NAME` and the error. grpcio does not show its user whether a
message was compressed; the other side checks that.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import grpc

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

TIMEOUT = 60
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
METADATA = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
LARGE = SimpleRequest(response_size=314_159, payload={"body": bytes(271_828)})
INPUTS = [InputRequest(payload={"body": bytes(size)}) for size in REQUEST_SIZES]
PAIRS = list(zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True))


def output_request(*sizes: int, **fields: Any) -> Any:
    return OutputRequest(response_parameters=[{"size": size} for size in sizes], **fields)


def compressed_request(*, compressed: bool) -> Any:
    request = SimpleRequest(expect_compressed={"value": compressed})
    request.MergeFrom(LARGE)
    return request


def answered_compressed(*, compressed: bool) -> Any:
    request = SimpleRequest(response_compressed={"value": compressed})
    request.MergeFrom(LARGE)
    return request


COMPRESSED_SIZES = {31_415: True, 92_653: False}
COMPRESSED_OUTPUT = OutputRequest(
    response_parameters=[{"size": size, "compressed": {"value": value}} for size, value in COMPRESSED_SIZES.items()]
)


def methods(channel: Any) -> dict[str, Any]:
    def method(kind: Any, name: str, request: Any, response: Any, service: str = SERVICE) -> Any:
        return kind(f"/{service}/{name}", request.SerializeToString, response.FromString)

    return {
        "empty": method(channel.unary_unary, "EmptyCall", Empty, Empty),
        "unary": method(channel.unary_unary, "UnaryCall", SimpleRequest, SimpleResponse),
        "input": method(channel.stream_unary, "StreamingInputCall", InputRequest, InputResponse),
        "output": method(channel.unary_stream, "StreamingOutputCall", OutputRequest, OutputResponse),
        "duplex": method(channel.stream_stream, "FullDuplexCall", OutputRequest, OutputResponse),
        "no_method": method(channel.unary_unary, "UnimplementedCall", Empty, Empty),
        "no_service": method(channel.unary_unary, "UnimplementedCall", Empty, Empty, f"{PACKAGE}.UnimplementedService"),
    }


class Sync:
    def __init__(self, channel: grpc.Channel) -> None:
        self.to = methods(channel)

    def empty_unary(self) -> None:
        assert self.to["empty"](Empty(), timeout=TIMEOUT) == Empty()

    def large_unary(self) -> None:
        assert self.to["unary"](LARGE, timeout=TIMEOUT).payload.body == bytes(314_159)

    def client_streaming(self) -> None:
        assert self.to["input"](iter(INPUTS), timeout=TIMEOUT).aggregated_payload_size == 74_922

    def server_streaming(self) -> None:
        responses = self.to["output"](output_request(*RESPONSE_SIZES), timeout=TIMEOUT)
        assert [len(each.payload.body) for each in responses] == list(RESPONSE_SIZES)

    def ping_pong(self) -> None:
        requests = (output_request(back, payload={"body": bytes(there)}) for there, back in PAIRS)
        responses = self.to["duplex"](requests, timeout=TIMEOUT)
        assert [len(each.payload.body) for each in responses] == list(RESPONSE_SIZES)

    def empty_stream(self) -> None:
        assert list(self.to["duplex"](iter(()), timeout=TIMEOUT)) == []

    def cancel_after_begin(self) -> None:
        cancelled = threading.Event()
        call = self.to["input"].future(unended(cancelled), timeout=TIMEOUT)
        call.cancel()
        assert call.cancelled()
        assert call.code() is grpc.StatusCode.CANCELLED
        cancelled.set()

    def cancel_after_first_response(self) -> None:
        cancelled = threading.Event()
        call = self.to["duplex"](unended(cancelled, output_request(31_415)), timeout=TIMEOUT)
        assert len(next(call).payload.body) == 31_415
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        cancelled.set()

    def timeout_on_sleeping_server(self) -> None:
        request = OutputRequest(response_parameters=[{"size": 1, "interval_us": 20_000_000}])
        self.fails(lambda: list(self.to["duplex"](iter([request]), timeout=0.001)), "DEADLINE_EXCEEDED")

    def custom_metadata(self) -> None:
        _, call = self.to["unary"].with_call(LARGE, timeout=TIMEOUT, metadata=METADATA)
        check_metadata(call.initial_metadata(), call.trailing_metadata())
        stream = self.to["duplex"](iter([output_request(314_159)]), timeout=TIMEOUT, metadata=METADATA)
        assert len(list(stream)) == 1
        check_metadata(stream.initial_metadata(), stream.trailing_metadata())

    def status_code_and_message(self) -> None:
        self.status("test status message")

    def special_status_message(self) -> None:
        self.status(SPECIAL_MESSAGE)

    def status(self, message: str) -> None:
        echo = {"code": 2, "message": message}
        self.fails(lambda: self.to["unary"](SimpleRequest(response_status=echo), timeout=TIMEOUT), "UNKNOWN", message)
        requests = [OutputRequest(response_status=echo)]
        self.fails(lambda: list(self.to["duplex"](iter(requests), timeout=TIMEOUT)), "UNKNOWN", message)

    def unimplemented_method(self) -> None:
        self.fails(lambda: self.to["no_method"](Empty(), timeout=TIMEOUT), "UNIMPLEMENTED")

    def unimplemented_service(self) -> None:
        self.fails(lambda: self.to["no_service"](Empty(), timeout=TIMEOUT), "UNIMPLEMENTED")

    def client_compressed_unary(self) -> None:
        self.fails(lambda: self.to["unary"](compressed_request(compressed=True), timeout=TIMEOUT), "INVALID_ARGUMENT")
        gzip = {"timeout": TIMEOUT, "compression": grpc.Compression.Gzip}
        assert len(self.to["unary"](compressed_request(compressed=True), **gzip).payload.body) == 314_159
        assert len(self.to["unary"](compressed_request(compressed=False), timeout=TIMEOUT).payload.body) == 314_159

    def client_compressed_streaming(self) -> None:
        request = InputRequest(payload={"body": bytes(27_182)}, expect_compressed={"value": True})
        self.fails(lambda: self.to["input"](iter([request]), timeout=TIMEOUT), "INVALID_ARGUMENT")
        gzip = {"timeout": TIMEOUT, "compression": grpc.Compression.Gzip}
        assert self.to["input"](iter([request] * 2), **gzip).aggregated_payload_size == 2 * 27_182

    def server_compressed_unary(self) -> None:
        for compressed in (True, False):
            response = self.to["unary"](answered_compressed(compressed=compressed), timeout=TIMEOUT)
            assert response.payload.body == bytes(314_159)

    def server_compressed_streaming(self) -> None:
        responses = self.to["output"](COMPRESSED_OUTPUT, timeout=TIMEOUT)
        assert [each.payload.body for each in responses] == [bytes(size) for size in COMPRESSED_SIZES]

    def fails(self, function: Any, code: str, message: str | None = None) -> None:
        try:
            function()
        except grpc.RpcError as error:
            check_error(error, code, message)
        else:
            raise AssertionError("no error came")


class Aio:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.to = methods(channel)

    async def empty_unary(self) -> None:
        assert await self.to["empty"](Empty(), timeout=TIMEOUT) == Empty()

    async def large_unary(self) -> None:
        assert (await self.to["unary"](LARGE, timeout=TIMEOUT)).payload.body == bytes(314_159)

    async def client_streaming(self) -> None:
        call = self.to["input"](timeout=TIMEOUT)
        for each in INPUTS:
            await call.write(each)
        await call.done_writing()
        assert (await call).aggregated_payload_size == 74_922

    async def server_streaming(self) -> None:
        call = self.to["output"](output_request(*RESPONSE_SIZES), timeout=TIMEOUT)
        assert [len(each.payload.body) async for each in call] == list(RESPONSE_SIZES)

    async def ping_pong(self) -> None:
        call = self.to["duplex"](timeout=TIMEOUT)
        for there, back in PAIRS:
            await call.write(output_request(back, payload={"body": bytes(there)}))
            assert len((await call.read()).payload.body) == back
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    async def empty_stream(self) -> None:
        call = self.to["duplex"](timeout=TIMEOUT)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK

    async def cancel_after_begin(self) -> None:
        call = self.to["input"](timeout=TIMEOUT)
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED

    async def cancel_after_first_response(self) -> None:
        call = self.to["duplex"](timeout=TIMEOUT)
        await call.write(output_request(31_415))
        assert len((await call.read()).payload.body) == 31_415
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED

    async def timeout_on_sleeping_server(self) -> None:
        call = self.to["duplex"](timeout=0.001)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def custom_metadata(self) -> None:
        call = self.to["unary"](LARGE, timeout=TIMEOUT, metadata=METADATA)
        await call
        check_metadata(await call.initial_metadata(), await call.trailing_metadata())

    async def status_code_and_message(self) -> None:
        await self.status("test status message")

    async def special_status_message(self) -> None:
        await self.status(SPECIAL_MESSAGE)

    async def status(self, message: str) -> None:
        echo = {"code": 2, "message": message}
        await self.fails(self.to["unary"](SimpleRequest(response_status=echo), timeout=TIMEOUT), "UNKNOWN", message)
        call = self.to["duplex"](timeout=TIMEOUT)
        await call.write(OutputRequest(response_status=echo))
        await self.fails(call.read(), "UNKNOWN", message)

    async def unimplemented_method(self) -> None:
        await self.fails(self.to["no_method"](Empty(), timeout=TIMEOUT), "UNIMPLEMENTED")

    async def unimplemented_service(self) -> None:
        await self.fails(self.to["no_service"](Empty(), timeout=TIMEOUT), "UNIMPLEMENTED")

    async def client_compressed_unary(self) -> None:
        await self.fails(self.to["unary"](compressed_request(compressed=True), timeout=TIMEOUT), "INVALID_ARGUMENT")
        gzip = {"timeout": TIMEOUT, "compression": grpc.Compression.Gzip}
        assert len((await self.to["unary"](compressed_request(compressed=True), **gzip)).payload.body) == 314_159

    async def server_compressed_unary(self) -> None:
        for compressed in (True, False):
            response = await self.to["unary"](answered_compressed(compressed=compressed), timeout=TIMEOUT)
            assert response.payload.body == bytes(314_159)

    async def server_compressed_streaming(self) -> None:
        call = self.to["output"](COMPRESSED_OUTPUT, timeout=TIMEOUT)
        assert [each.payload.body async for each in call] == [bytes(size) for size in COMPRESSED_SIZES]

    async def fails(self, call: Any, code: str, message: str | None = None) -> None:
        try:
            await call
        except grpc.RpcError as error:
            check_error(error, code, message)
        else:
            raise AssertionError("no error came")


def unended(cancelled: threading.Event, *requests: Any) -> Iterator[Any]:
    """Yield requests without ending the stream before the call has ended."""
    yield from requests
    cancelled.wait(TIMEOUT)


def check_metadata(initial: Any, trailing: Any) -> None:
    assert METADATA[0] in {tuple(pair) for pair in initial}
    assert METADATA[1] in {tuple(pair) for pair in trailing}


def check_error(error: Any, code: str, message: str | None) -> None:
    assert error.code().name == code, error
    assert message is None or error.details() == message, error.details()


def names(kind: type) -> list[str]:
    """Return the names of a class's cases."""
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name not in _HELPERS]


_HELPERS = ("__init__", "fails", "status")


def run_sync(port: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        cases = Sync(channel)
        for name in names(Sync):
            try:
                getattr(cases, name)()
            except Exception:
                tell_failure(name)
            else:
                print(f"{name} ok", flush=True)


async def run_aio(port: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        cases = Aio(channel)
        for name in names(Aio):
            try:
                await getattr(cases, name)()
            except Exception:
                tell_failure(name)
            else:
                print(f"{name} ok", flush=True)


def tell_failure(name: str) -> None:
    print(f"{name} {traceback.format_exc()!r}", flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "sync":
        run_sync(sys.argv[1])
    else:
        asyncio.run(run_aio(sys.argv[1]))
    os._exit(0)  # see tests/e2e/operator_client.py
