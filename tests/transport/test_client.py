"""The client against the service in this process, and against servers that die, fall silent or send nonsense."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import trio
import trio.testing

from engine.errors import Category
from engine.limits import ResourceLimits, SessionOptions
from engine.manifest import Connection, Manifest, NodeSpec
from engine.messages import Chunk, NodeStatus, Result, SessionMetrics, Status
from nodes.contract import Audio, Data, Item, Kind, Node
from nodes.registry import BUILTIN
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from tests.e2e.servers import ServerProcess, serving
from transport.client import Client, RemoteError, RpcError, connect
from transport.client.dial import parse_target
from transport.client.errors import CallCancelled, Unavailable
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.grpc.addresses import TcpAddress, UnixAddress
from transport.grpc.limits import Limits
from transport.grpc.status import StatusCode, StatusError
from transport.server import Server, serve
from transport.server.call import Call, Handler, unary

ECHO = Manifest("v1", (NodeSpec("in", "PassThrough"),))
QUIET = SessionOptions(metrics_interval_ms=3_600_000)  # nothing but answers, however long it takes


def block(sequence: int, frames: int = 160, source: str = "", timestamp_ms: int = 0) -> Chunk:
    return Chunk(Audio(np.full((frames, 1), sequence, np.int16), 16_000), sequence, source, timestamp_ms)


async def for_ever(call: Callable[[], Awaitable[Any]]) -> None:
    while True:
        await call()


@asynccontextmanager
async def connected(registry: Any = BUILTIN) -> AsyncIterator[tuple[Client, Server]]:
    with trio.fail_after(120):
        async with serving(registry) as server, connect(f"127.0.0.1:{server.port}") as client:
            yield client, server


@asynccontextmanager
async def answering(path: str, handler: Handler) -> AsyncIterator[Client]:
    """Yield a client of a server with one method, answered by `handler`."""
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, {path: handler})
            async with connect(f"127.0.0.1:{server.port}") as client:
                yield client
            nursery.cancel_scope.cancel()


# ---- what works


async def test_get_version() -> None:
    async with connected() as (client, _):
        version = await client.get_version()
        assert version.compatible
        assert version.protocol == "v1"
        assert set(version.node_types) == set(BUILTIN)
        other = await client.get_version("v2")
        assert not other.compatible
        assert "'v2'" in other.message


async def test_execute() -> None:
    manifest = Manifest(
        "v1",
        (NodeSpec("in", "PassThrough"), NodeSpec("up", "AudioResample", {"target_sample_rate": 48_000})),
        (Connection("in", "up"),),
    )
    async with connected() as (client, _):
        result = await client.execute(manifest, {"in": block(1, 40_000).item})  # type: ignore[dict-item]
        assert result.status is Status.SUCCESS
        assert [node.status for node in result.nodes] == [NodeStatus.SUCCESS] * 2
        audio = result.outputs["up"].audio
        assert audio is not None
        assert audio.frames.shape == (120_000, 1)
        assert result.figures["up"].run_ms > 0
        data = await client.execute(ECHO, data={"in": Data({"a": [1, "é"]})})
        assert data.outputs["in"].data == Data({"a": [1, "é"]})


async def test_a_session() -> None:
    options = SessionOptions(input_capacity=5, lean=True)
    async with connected() as (client, _), client.stream(ECHO, options=options) as session:
        assert session.ready.input_capacity == 5
        for i in range(20):
            await session.send(block(i, timestamp_ms=1_000 + i))
        await session.send(Chunk(Data({"k": 1}), 20))
        await session.flush()
        await session.close()
        got = [event async for event in session]
    results = [event for event in got if isinstance(event, Result)]
    assert [result.sequence for result in results] == [*range(21), 20, 20]
    assert [result.flush for result in results] == [False] * 21 + [True] * 2
    assert [result.timestamp_ms for result in results[:20]] == list(range(1_000, 1_020))
    for i, result in enumerate(results[:20]):
        audio = result.outputs["in"].audio
        assert audio is not None
        np.testing.assert_array_equal(audio.frames, np.full((160, 1), i))
    assert results[20].outputs["in"].data == Data({"k": 1})
    final = got[-1]
    assert isinstance(final, SessionMetrics)
    assert final.final
    assert final.delivered == 21
    assert await session.receive() is None


async def test_many_sessions_on_one_connection() -> None:
    async def talk(client: Client, number: int) -> None:
        async with client.stream(ECHO, options=QUIET) as session:
            for i in range(10):
                await session.send(block(number + i))
                event = await session.receive()
                assert isinstance(event, Result)
                assert event.sequence == number + i
            await session.close()
            assert [event async for event in session]

    async with connected() as (client, _), trio.open_nursery() as nursery:
        for number in range(0, 2_000, 100):
            nursery.start_soon(talk, client, number)


async def test_cancel_and_errors_in_band() -> None:
    async with connected() as (client, _), client.stream(ECHO, options=QUIET) as session:
        await session.send(block(0, source="nowhere"))
        event = await session.receive()
        assert isinstance(event, RemoteError)
        assert event.category is Category.VALIDATION
        assert event.sequence == 0
        assert event.code is None
        assert "sources are 'in'" in event.message
        await session.cancel()
        got = [event async for event in session]
        assert isinstance(got[-1], SessionMetrics)
        assert got[-1].refused == 1


async def test_a_manifest_with_faults() -> None:
    async with connected() as (client, _):
        bad = Manifest("v1", (NodeSpec("a", "Nonesuch"),))
        with pytest.raises(RemoteError, match=r"nodes\[0\].node_type: 'Nonesuch' is unknown") as streamed:
            async with client.stream(bad):
                pytest.fail("there is no session")
        assert streamed.value.code is StatusCode.INVALID_ARGUMENT
        with pytest.raises(RemoteError, match="Nonesuch") as executed:
            await client.execute(bad)
        assert executed.value.category is streamed.value.category is Category.VALIDATION
        assert executed.value.context == streamed.value.context
        json.dumps(executed.value.context)


async def test_limits_are_asked_for() -> None:
    limits = ResourceLimits(max_audio_samples=100)
    async with connected() as (client, _):
        with pytest.raises(RemoteError, match="the limit is 100") as refused:
            await client.execute(ECHO, {"in": block(0).item}, limits=limits)  # type: ignore[dict-item]
        assert refused.value.category is Category.RESOURCE_LIMIT
        async with client.stream(ECHO, limits=limits, options=QUIET) as session:
            await session.send(block(0))
            event = await session.receive()
            assert isinstance(event, RemoteError)
            assert event.category is Category.RESOURCE_LIMIT


# ---- leaving, and being left


@attrs.define
class Watched(Node):
    """A node that sets an event when it is closed."""

    closed: ClassVar[trio.Event]

    takes = Kind.BOTH
    gives = Kind.BOTH

    def process(self, item: Item) -> Iterable[Item]:
        return (item,)

    def close(self) -> None:
        self.closed.set()


class LeftEarly(Exception):
    pass


async def leave(client: Client, how: str) -> None:
    with trio.CancelScope() as scope:
        async with client.stream(Manifest("v1", (NodeSpec("in", "Watched"),)), options=QUIET) as session:
            await session.send(block(0))
            assert isinstance(await session.receive(), Result)
            if how == "raise":
                raise LeftEarly
            if how == "cancel":
                scope.cancel()
                await session.receive()


@pytest.mark.parametrize("how", ["return", "raise", "cancel"])
async def test_leaving_the_block_frees_the_session_on_the_server(how: str) -> None:
    Watched.closed = trio.Event()
    async with connected({"Watched": Watched}) as (client, server):
        if how == "raise":
            with pytest.raises(LeftEarly):  # not wrapped in a group
                await leave(client, how)
        else:
            await leave(client, how)
        await Watched.closed.wait()
        while server.open_calls:
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.get_version()).compatible  # the connection lives


async def test_a_server_that_dies() -> None:
    """A SIGKILL in mid-stream raises in every task that waits on a call."""
    process = ServerProcess()
    try:
        with trio.fail_after(120):
            async with connect(process.address) as client, client.stream(ECHO, options=QUIET) as session:
                await session.send(block(0))
                assert isinstance(await session.receive(), Result)
                outcomes: list[Exception] = []

                async def expect_lost(wait: Callable[[], Awaitable[Any]]) -> None:
                    with pytest.raises(RpcError) as lost:
                        await for_ever(wait)
                    outcomes.append(lost.value)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(expect_lost, session.receive)
                    nursery.start_soon(expect_lost, client.get_version)
                    await trio.testing.wait_all_tasks_blocked()
                    process.process.kill()
                assert [error.code for error in outcomes if isinstance(error, RpcError)] == [StatusCode.UNAVAILABLE] * 2
                with pytest.raises(RpcError) as later:
                    await client.execute(ECHO, {"in": block(0).item})  # type: ignore[dict-item]
                assert later.value.code is StatusCode.UNAVAILABLE
    finally:
        process.kill()


# ---- servers that send nonsense


async def test_nobody_there() -> None:
    with trio.fail_after(120):
        with trio.socket.socket() as bound:
            await bound.bind(("127.0.0.1", 0))
            with pytest.raises(RpcError) as nobody:
                async with connect(f"127.0.0.1:{bound.getsockname()[1]}"):
                    pytest.fail("there is nobody")
        assert nobody.value.code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"\0" * 64])
async def test_somebody_who_speaks_no_http2(greeting: bytes) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(greeting)
        await trio.sleep_forever()

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, greet, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            with pytest.raises(RpcError) as none:
                async with connect(f"127.0.0.1:{port}", timeout_s=0.2):
                    pytest.fail("nobody speaks gRPC there")
            nursery.cancel_scope.cancel()
    assert none.value.code is StatusCode.UNAVAILABLE


async def silent(call: Call) -> None:
    await trio.sleep_forever()


async def test_every_call_has_a_deadline() -> None:
    async with answering(f"/{EXECUTION_SERVICE}/GetVersion", silent) as client:
        with pytest.raises(RpcError) as late:
            await client.get_version(timeout_s=0.1)
        assert late.value.code is StatusCode.DEADLINE_EXCEEDED
    async with answering(f"/{EXECUTION_SERVICE}/ExecutePipeline", silent) as client:
        with pytest.raises(RpcError) as late:
            await client.execute(ECHO, timeout_s=0.1)
        assert late.value.code is StatusCode.DEADLINE_EXCEEDED
    async with answering(f"/{STREAMING_SERVICE}/StreamPipeline", silent) as client:
        for limits in ({"timeout_s": 0.1}, {"ready_timeout_s": 0.1}):
            with pytest.raises(RpcError) as late:
                async with client.stream(ECHO, **limits):  # type: ignore[arg-type]
                    pytest.fail("it never was ready")
            assert late.value.code is StatusCode.DEADLINE_EXCEEDED


async def test_the_deadline_of_a_session_that_runs() -> None:
    async with connected() as (client, _):
        with pytest.raises(RpcError) as late:
            async with client.stream(ECHO, timeout_s=0.3) as session:
                await for_ever(session.receive)
        assert late.value.code is StatusCode.DEADLINE_EXCEEDED


async def test_methods_that_are_not_there() -> None:
    async with answering("/other.Service/Method", silent) as client:
        for attempt in (client.get_version(), client.execute(ECHO)):
            with pytest.raises(RpcError) as none:
                await attempt
            assert none.value.code is StatusCode.UNIMPLEMENTED
        with pytest.raises(RpcError) as none:
            async with client.stream(ECHO):
                pytest.fail("there is no such method")
        assert none.value.code is StatusCode.UNIMPLEMENTED


async def nonsense(request: bytes, call: Call) -> bytes:
    return b"\xff\xff"


async def bad_audio(request: bytes, call: Call) -> bytes:
    reply = execution.ExecuteResponse()
    reply.result.audio_outputs["n"].num_samples = 7
    return reply.SerializeToString()


async def foreign_details(request: bytes, call: Call) -> bytes:
    raise StatusError(StatusCode.RESOURCE_EXHAUSTED, "said a proxy", details=b"\xff\xff")


@pytest.mark.parametrize(
    ("answer", "code", "fact"),
    [
        (nonsense, StatusCode.INTERNAL, "cannot be parsed as ExecuteResponse"),
        (bad_audio, StatusCode.INTERNAL, "the server sent invalid audio"),
        (foreign_details, StatusCode.RESOURCE_EXHAUSTED, "said a proxy"),
    ],
)
async def test_answers_that_are_none(answer: Any, code: StatusCode, fact: str) -> None:
    async with answering(f"/{EXECUTION_SERVICE}/ExecutePipeline", unary(answer)) as client:
        with pytest.raises(RpcError, match=fact) as strange:
            await client.execute(ECHO)
        assert strange.value.code is code


def streaming_answers(*responses: bytes) -> Handler:
    async def handle(call: Call) -> None:
        for response in responses:
            await call.send(response)

    return handle


READY = streaming.StreamResponse(ready=streaming.StreamReady(session_id="s", input_capacity=1)).SerializeToString()


async def test_a_session_that_ends_before_it_is_ready() -> None:
    async with answering(f"/{STREAMING_SERVICE}/StreamPipeline", streaming_answers()) as client:
        with pytest.raises(RpcError, match="before it was ready"):
            async with client.stream(ECHO):
                pytest.fail("it never was ready")


async def test_events_that_are_none_or_from_the_future() -> None:
    future = streaming.StreamResponse(timestamp_ms=1).SerializeToString()
    handler = streaming_answers(READY, future, b"\xff")
    async with answering(f"/{STREAMING_SERVICE}/StreamPipeline", handler) as client, client.stream(ECHO) as session:
        with pytest.raises(RpcError, match="cannot be parsed as StreamResponse"):
            await session.receive()


async def test_sending_to_a_server_that_has_ended_the_session() -> None:
    """The session ends with OK and takes no chunks: sends are ignored, and `receive` returns the end."""
    handler = streaming_answers(READY)
    async with answering(f"/{STREAMING_SERVICE}/StreamPipeline", handler) as client, client.stream(ECHO) as session:
        for i in range(100):
            await session.send(block(i, 16_000))
        await session.close()
        assert await session.receive() is None


# ---- sending


async def ready_and_deaf(call: Call) -> None:
    await call.send(READY)
    await trio.sleep_forever()


LARGE = block(0, 4_000_000)  # more than any window


async def test_a_send_that_is_cancelled_half_way_ends_the_session() -> None:
    """The rest of the message will never come, so neither the server nor the receiver waits for it."""
    handler = ready_and_deaf
    async with answering(f"/{STREAMING_SERVICE}/StreamPipeline", handler) as client, client.stream(ECHO) as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(for_ever, partial(session.send, LARGE))
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
        with pytest.raises(CallCancelled, match="left unfinished"):
            await session.receive()
        await session.send(block(1))  # ignored, as after any end
        await session.close()


async def test_a_server_that_takes_nothing_ends_the_session() -> None:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, {f"/{STREAMING_SERVICE}/StreamPipeline": ready_and_deaf})
            limits = Limits(write_timeout_s=0.1)
            async with (
                connect(f"127.0.0.1:{server.port}", limits=limits) as client,
                client.stream(ECHO) as session,
                trio.open_nursery() as sending,
            ):
                sending.start_soon(for_ever, partial(session.send, LARGE))
                with pytest.raises(Unavailable, match="taken nothing"):
                    await session.receive()
                sending.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def test_several_tasks_may_send_into_one_session() -> None:
    """Chunks too large for the window, so that every send waits inside its message."""
    async with connected() as (client, _), client.stream(ECHO, options=QUIET) as session:
        numbers = itertools.count()

        async def send() -> None:
            for _ in range(3):
                await session.send(block(next(numbers), 200_000))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(send)
            results = [await session.receive() for _ in range(12)]
        assert [each.sequence for each in results if isinstance(each, Result)] == list(range(12))
        await session.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_requests_may_be_compressed(encoding: str) -> None:
    with trio.fail_after(120):
        async with (
            serving(BUILTIN) as server,
            connect(f"127.0.0.1:{server.port}", encoding=encoding) as client,
            client.stream(ECHO, options=QUIET) as session,
        ):
            await session.send(block(7, 16_000))
            event = await session.receive()
            assert isinstance(event, Result)
            audio = event.outputs["in"].audio
            assert audio is not None
            np.testing.assert_array_equal(audio.frames, block(7, 16_000).item.frames)  # type: ignore[union-attr]
            result = await client.execute(ECHO, {"in": block(3, 16_000).item})  # type: ignore[dict-item]
            assert result.status is Status.SUCCESS


# ---- addresses


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost:1", TcpAddress("localhost", 1)),
        ("127.0.0.1:65535", TcpAddress("127.0.0.1", 65535)),
        ("[::1]:50051", TcpAddress("::1", 50051)),
        ("unix:/run/h.sock", UnixAddress("/run/h.sock")),
        ("unix:///run/h.sock", UnixAddress("/run/h.sock")),
    ],
)
def test_addresses(address: str, target: TcpAddress | UnixAddress) -> None:
    assert parse_target(address) == target


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "host:-1", "host:²"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_target(address)
