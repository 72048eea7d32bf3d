"""The service over an in-memory stream, under virtual time."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
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
from engine.runtime.engine import Engine
from engine.runtime.placement import Threads
from nodes.contract import Audio, Data, InvalidInput, Item, Kind, Node, parameter
from nodes.pass_through import PassThrough
from protos import common_pb2 as pb
from protos import execution_pb2 as execution
from protos import streaming_pb2 as streaming
from transport.client import Client, RemoteError, RemoteSession
from transport.client.channel import Channel, ClientCall, channel_over
from transport.codec.details import unpack
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.grpc.limits import Limits
from transport.grpc.status import RpcError, StatusCode
from transport.server import Server
from transport.service.pipelines import handlers


@attrs.define
class Breaks(Node):
    """A node that passes items on until item `at`, where it breaks."""

    at: int = parameter(2, help="which item it breaks at")
    how: str = parameter("raise", help="what happens then")
    _seen: int = attrs.field(init=False, default=0)

    takes = Kind.BOTH
    gives = Kind.BOTH

    def process(self, item: Item) -> Iterable[Item]:
        if self._seen == self.at and self.how == "refuse":
            self.at = -1
            raise InvalidInput("not to its taste")
        self._seen += 1
        if self._seen <= self.at:
            return (item,)
        match self.how:
            case "raise":
                raise ZeroDivisionError("it broke")
            case "nan":
                return (Data({"value": float("nan")}),)
            case "nothing of ours":
                return ("a string",)  # type: ignore[return-value]
            case "unlike":
                one = np.zeros((4, 1), np.int16)
                return (Audio(one, 8_000), Audio(one, 16_000))
        return (item,)


@attrs.define
class Stuck(Node):
    """A node that blocks its thread until the test sets `opened`."""

    opened: ClassVar[threading.Event]
    closed: ClassVar[threading.Event]

    placement = "thread"

    def process(self, item: Audio) -> Iterable[Audio]:
        assert self.opened.wait(60)
        return (item,)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def stuck() -> Iterable[type[Stuck]]:
    Stuck.opened, Stuck.closed = threading.Event(), threading.Event()
    yield Stuck
    Stuck.opened.set()


REGISTRY = {"PassThrough": PassThrough, "Breaks": Breaks, "Stuck": Stuck}


@asynccontextmanager
async def service(
    registry: Mapping[str, type[Any]] = REGISTRY, *, debug: bool = False, **of_engine: Any
) -> AsyncIterator[Channel]:
    """Yield a channel to the service, over an in-memory stream."""
    near, far = trio.testing.memory_stream_pair()
    engine = Engine(registry, **of_engine)
    server = Server(handlers(engine, debug_errors=debug), Limits(), debug_errors=debug)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.sweep.run)
        nursery.start_soon(server.accept, far, "test")
        async with channel_over(near, "there") as channel:
            yield channel
        nursery.cancel_scope.cancel()


def one_node(node_type: str, **params: Any) -> Manifest:
    return Manifest("v1", (NodeSpec("n", node_type, params),))


def block(sequence: int, source: str = "") -> Chunk:
    return Chunk(Audio(np.full((160, 1), sequence, np.int16), 16_000), sequence, source)


async def events(session: RemoteSession) -> tuple[list[Any], Exception | None]:
    """Receive all events except periodic metrics, and the error that ended the session, if any."""
    got: list[Any] = []
    try:
        async for event in session:
            if not isinstance(event, SessionMetrics) or event.final:
                got.append(event)
    except (RemoteError, RpcError) as error:
        return got, error
    return got, None


# ---- a node fails


@pytest.mark.parametrize(
    ("how", "fact"),
    [
        ("raise", "node 'n' (Breaks) failed: ZeroDivisionError: it broke"),
        ("nothing of ours", "'a string'"),
        ("unlike", "node 'n' (Breaks) emitted outputs that cannot be joined: ValueError: audio of unlike formats"),
    ],
)
async def test_a_node_that_fails_ends_the_session(how: str, fact: str, autojump_clock: object) -> None:
    async with service() as channel, Client(channel).stream(one_node("Breaks", how=how)) as session:
        for i in range(4):
            await session.send(block(i))
        got, ended = await events(session)
    first, second, failure, metrics = got
    assert [first.sequence, second.sequence] == [0, 1]
    assert isinstance(failure, RemoteError)
    assert failure.category is Category.NODE_EXECUTION
    assert fact in failure.message
    assert (failure.node_id, failure.sequence, failure.stack_trace) == ("n", 2, "")
    assert metrics.final
    assert metrics.accepted == metrics.delivered + metrics.cancelled
    assert metrics.delivered == 2
    assert isinstance(ended, RemoteError)
    assert ended.code is StatusCode.INTERNAL
    assert ended.message == failure.message


async def test_a_failures_context_and_where_its_stack_trace_goes(autojump_clock: object) -> None:
    async with service(debug=True) as channel, Client(channel).stream(one_node("Breaks", at=0)) as session:
        await session.send(block(0))
        (failure, _), _ = await events(session)
    assert failure.context == {
        "node_type": "Breaks",
        "params": {"at": 0},
        "inputs": ["160x1 i16 at 16000 Hz"],
    }
    assert "ZeroDivisionError" in failure.stack_trace


async def test_a_node_that_fails_in_a_unary_call(autojump_clock: object) -> None:
    async with service() as channel:
        with pytest.raises(RemoteError, match="it broke") as failed:
            await Client(channel).execute(one_node("Breaks", at=0), {"": block(0).item})  # type: ignore[dict-item]
    assert failed.value.category is Category.NODE_EXECUTION
    assert failed.value.code is None  # it came as `error`, with status OK


async def test_a_node_that_refuses(autojump_clock: object) -> None:
    manifest = Manifest(
        "v1",
        (NodeSpec("in", "PassThrough"), NodeSpec("n", "Breaks", {"at": 1, "how": "refuse"}), NodeSpec("m", "Breaks")),
        (Connection("in", "n"), Connection("in", "m")),
    )
    options = SessionOptions(reorder_timeout_ms=60_000)
    async with service() as channel, Client(channel).stream(manifest, options=options) as session:
        for i in range(2):
            await session.send(block(i))
        await session.flush()
        await session.close()
        got, ended = await events(session)
    fine, refusal, partial, flush, _, metrics = got
    assert ended is None
    assert fine.status is Status.SUCCESS
    assert (refusal.node_id, refusal.sequence, refusal.category) == ("n", 1, Category.NODE_EXECUTION)
    assert "not to its taste" in refusal.message
    assert partial.status is Status.PARTIAL_SUCCESS
    assert {node.node_id: node.status for node in partial.nodes}["n"] is NodeStatus.FAILED
    assert set(partial.outputs) == {"m"}
    assert flush.flush
    assert (metrics.delivered, metrics.rejected) == (1, 1)


# ---- time


async def test_a_row_that_takes_too_long(stuck: type[Stuck], autojump_clock: object) -> None:
    async with service() as channel:
        async with Client(channel).stream(one_node("Stuck"), limits=ResourceLimits(0, 1_000, 0)) as session:
            await session.send(block(7))
            got, ended = await events(session)
        failure, metrics = got
        assert failure.category is Category.RESOURCE_LIMIT
        assert failure.sequence == 7
        assert failure.node_id == "n"
        assert failure.context["limit_ms"] == 1_000
        assert 1_000 < failure.context["value_ms"] < 1_200
        assert metrics.cancelled == 1
        assert isinstance(ended, RemoteError)
        assert ended.code is StatusCode.DEADLINE_EXCEEDED
        assert not stuck.closed.is_set()
        stuck.opened.set()
        assert stuck.closed.wait(60)


async def test_a_unary_call_that_takes_too_long(stuck: type[Stuck], autojump_clock: object) -> None:
    async with service() as channel:
        with pytest.raises(RemoteError, match="1000 ms") as failed:
            await Client(channel).execute(one_node("Stuck"), {"n": block(0).item}, limits=ResourceLimits(0, 1_000, 0))  # type: ignore[dict-item]
    assert failed.value.category is Category.RESOURCE_LIMIT


async def test_abandoned_calls_fill_the_service_and_it_says_so(stuck: type[Stuck], autojump_clock: object) -> None:
    async with service(threads=Threads(slots=4, stragglers=1)) as channel:
        client = Client(channel)
        async with client.stream(one_node("Stuck")) as session:
            await session.send(block(0))
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        for attempt in (client.execute(one_node("PassThrough")), open_and_leave(client)):
            with pytest.raises(RemoteError) as refused:
                await attempt
            assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
            assert refused.value.retryable
            assert refused.value.retry_after_ms > 0


async def open_and_leave(client: Client) -> None:
    async with client.stream(one_node("PassThrough")):
        pass


async def test_metrics_come_every_second_and_the_latest_wins(autojump_clock: object) -> None:
    async with service() as channel, Client(channel).stream(one_node("PassThrough")) as session:
        began = trio.current_time()
        for second in range(1, 4):
            event = await session.receive()
            assert isinstance(event, SessionMetrics)
            assert not event.final
            assert trio.current_time() - began == pytest.approx(second, abs=0.2)


async def test_a_hole_is_waited_for_as_long_as_said(autojump_clock: object) -> None:
    async with service() as channel:
        for asked, expected in ((0, 0.2), (5_000, 5.0)):
            options = SessionOptions(reorder_timeout_ms=asked, metrics_interval_ms=3_600_000)
            async with Client(channel).stream(one_node("PassThrough"), options=options) as session:
                await session.send(block(0))
                await session.receive()
                began = trio.current_time()
                await session.send(block(2))
                event = await session.receive()
                assert isinstance(event, Result)
                assert event.sequence == 2
                assert trio.current_time() - began == pytest.approx(expected, abs=0.11)


async def test_an_idle_session_is_not_ended(autojump_clock: object) -> None:
    options = SessionOptions(metrics_interval_ms=2**32 - 1)
    async with service() as channel, Client(channel).stream(one_node("PassThrough"), options=options) as session:
        await trio.sleep(600)
        await session.send(block(0))
        event = await session.receive()
        assert isinstance(event, Result)


# ---- what cannot be parsed


async def call_raw(channel: Channel, path: str, *requests: bytes) -> tuple[list[bytes], ClientCall]:
    replies: list[bytes] = []
    async with channel.call(path, timeout_s=20) as call:
        for request in requests:
            await call.send(request)
        call.half_close()
        try:
            while (reply := await call.receive()) is not None:
                replies.append(reply)
        except RpcError:
            pass
        return replies, call


async def test_what_cannot_be_parsed(autojump_clock: object) -> None:
    async with service() as channel:
        replies, call = await call_raw(channel, f"/{EXECUTION_SERVICE}/GetVersion", b"\xff")
        status = await call.status()
        assert not replies
        assert status.code is StatusCode.INVALID_ARGUMENT
        told = unpack(status.details, status.code)
        assert told is not None
        assert told.error_type == pb.ERROR_TYPE_VALIDATION

        replies, call = await call_raw(channel, f"/{EXECUTION_SERVICE}/ExecutePipeline", b"\xff")
        assert (await call.status()).code is StatusCode.OK
        assert execution.ExecuteResponse.FromString(replies[0]).error.error_type == pb.ERROR_TYPE_VALIDATION

        replies, call = await call_raw(channel, f"/{STREAMING_SERVICE}/StreamPipeline", b"\xff")
        assert (await call.status()).code is StatusCode.INVALID_ARGUMENT
        assert streaming.StreamResponse.FromString(replies[0]).error.error_type == pb.ERROR_TYPE_VALIDATION


async def test_a_unary_request_of_no_message_or_of_two(autojump_clock: object) -> None:
    async with service() as channel:
        for requests, code in (((), StatusCode.INTERNAL), ((b"", b""), StatusCode.UNIMPLEMENTED)):
            replies, call = await call_raw(channel, f"/{EXECUTION_SERVICE}/GetVersion", *requests)
            assert not replies
            assert (await call.status()).code is code


async def test_what_is_sent_to_a_session_that_is_over_is_taken_and_thrown_away(autojump_clock: object) -> None:
    """The client sends more than its window holds and does not hang."""
    async with service() as channel, Client(channel).stream(one_node("PassThrough")) as session:
        await session.cancel()
        for i in range(100):
            await session.send(Chunk(Audio(np.zeros((16_000, 1), np.int16), 16_000), i))
        got, ended = await events(session)
    assert ended is None
    assert [type(event) for event in got] == [SessionMetrics]


# ---- figures


async def test_the_build_timestamp_can_be_fixed(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    async with service() as channel:
        version = await Client(channel).get_version()
    assert version.build == "2023-11-14T22:13:20Z"
    assert version.node_types == ("Breaks", "PassThrough", "Stuck")


async def test_where_a_node_ran(stuck: type[Stuck]) -> None:  # in real time: virtual time flies while a thread runs
    stuck.opened.set()
    async with service() as channel, Client(channel).stream(one_node("Stuck")) as session:
        await session.send(block(0))
        await session.close()
        with trio.fail_after(120):
            got, ended = await events(session)
    assert ended is None
    ran = [json.loads(event.nodes[0].metadata) for event in got if isinstance(event, Result) and not event.flush]
    assert [each["placement"] for each in ran] == ["thread"]


def broken(*_: object) -> None:
    raise RuntimeError("a secret of the house")


@pytest.mark.parametrize("debug", [False, True])
async def test_a_bug_in_the_service_is_told_as_no_more_than_that(
    debug: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    monkeypatch.setattr("engine.session.results.ResultMaker.make", broken)
    async with service(debug=debug) as channel:
        client = Client(channel)
        async with client.stream(one_node("PassThrough")) as session:
            await session.send(block(0))
            got, ended = await events(session)
        with pytest.raises(RemoteError) as failed:
            await client.execute(one_node("PassThrough"), {"": block(0).item})  # type: ignore[dict-item]
        assert (await client.get_version()).compatible  # the connection lives
    assert isinstance(ended, RemoteError)
    assert ended.code is StatusCode.INTERNAL
    assert failed.value.code is None
    for error in (got[0], ended, failed.value):
        assert isinstance(error, RemoteError)
        assert error.category is Category.INTERNAL
        assert ("a secret of the house" in error.message) is debug
    assert "a secret of the house" in caplog.text


async def test_a_row_that_cannot_be_encoded_is_not_delivered(autojump_clock: object) -> None:
    async with service() as channel, Client(channel).stream(one_node("Breaks", how="nan")) as session:
        for sequence in range(4):
            await session.send(block(sequence))
        got, _ = await events(session)
    error, account = got[2], got[-1]
    assert isinstance(error, RemoteError)
    assert "not JSON" in error.message
    assert isinstance(account, SessionMetrics)
    assert account.delivered == 2
    assert account.cancelled == account.accepted - 2 >= 1  # row 2 itself, and row 3 if it had been read
