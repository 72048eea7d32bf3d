"""Reconnecting under virtual time: the errors that are retried, and the waits before each attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine.limits import SessionOptions
from engine.manifest import Manifest, NodeSpec
from engine.messages import Chunk, Result
from engine.runtime.engine import Engine
from nodes.contract import Data
from nodes.registry import BUILTIN
from protos import common_pb2 as pb
from tests.e2e.servers import serving
from transport.client import Client, RemoteError, RemoteSession, connect
from transport.client.channel import channel_over
from transport.client.errors import ERRORS, ResourceExhausted, Unavailable, error_of, pushback_ms, rpc_error
from transport.codec.details import pack
from transport.codec.errors import decode_remote_error
from transport.codec.methods import EXECUTION_SERVICE, STREAMING_SERVICE
from transport.grpc.limits import Limits
from transport.grpc.status import RpcError, Status, StatusCode, StatusError
from transport.reconnect import Backoff, Reconnecting, reconnecting, retry_after_s
from transport.server import Server, serve
from transport.server.call import Call
from transport.service.pipelines import handlers

ECHO = Manifest("v1", (NodeSpec("in", "PassThrough"),))
QUIET = SessionOptions(metrics_interval_ms=3_600_000)
BACKOFF = Backoff(attempts=6, first_s=1, factor=2, most_s=6)
HALF = 0.5


def unavailable(pushback: str | None = None, code: StatusCode = StatusCode.UNAVAILABLE) -> RpcError:
    metadata = () if pushback is None else (("grpc-retry-pushback-ms", pushback),)
    return rpc_error(code, f"not now, {pushback}", metadata=metadata)


class Dialled:
    """Replacement for `connect`: each attempt has the next of the given outcomes, and its time is noted."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.times: list[float] = []
        self.open = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Client]:
        self.times.append(round(trio.current_time(), 6))
        if (outcome := self.outcomes.pop(0)) is not None:
            raise outcome
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server({}, Limits(), debug_errors=False).accept, far)
            async with channel_over(near, "there") as channel:
                self.open += 1
                try:
                    yield Client(channel)
                finally:
                    self.open -= 1
            nursery.cancel_scope.cancel()


async def attempts(dialled: Dialled, backoff: Backoff = BACKOFF, chance: float = HALF) -> list[float]:
    """Return the times between attempts, until one succeeds."""
    async with reconnecting("there:1", open_client=dialled, backoff=backoff, chance=lambda: chance) as service:
        await service.client()
    return [b - a for a, b in zip(dialled.times, dialled.times[1:], strict=False)]


# ---- waits


async def test_waits_grow_to_their_bound(autojump_clock: trio.testing.MockClock) -> None:
    assert await attempts(Dialled(*[unavailable()] * 5, None)) == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize(("chance", "waits"), [(0.0, [0, 0, 0]), (1.0, [1, 2, 4])])
async def test_jitter_is_full(autojump_clock: trio.testing.MockClock, chance: float, waits: list[float]) -> None:
    assert await attempts(Dialled(*[unavailable()] * 3, None), chance=chance) == waits


async def test_a_servers_hint_is_a_least_wait(autojump_clock: trio.testing.MockClock) -> None:
    refused = unavailable("7000", StatusCode.RESOURCE_EXHAUSTED)
    assert await attempts(Dialled(refused, unavailable("0"), None)) == [7.5, 1]


async def test_attempts_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    dialled = Dialled(*[unavailable()] * 9)
    with pytest.raises(Unavailable, match="not now"):
        await attempts(dialled)
    assert len(dialled.times) == 6


@pytest.mark.parametrize(
    "error",
    [
        unavailable("-1"),
        unavailable("soon"),
        unavailable("60001"),
        unavailable(code=StatusCode.RESOURCE_EXHAUSTED),
        *(rpc_error(code, "never") for code in ERRORS if code not in (8, 14)),
    ],
    ids=str,
)
async def test_what_another_attempt_would_not_mend(autojump_clock: trio.testing.MockClock, error: RpcError) -> None:
    dialled = Dialled(error, None)
    with pytest.raises(type(error)) as raised:
        await attempts(dialled)
    assert raised.value is error
    assert dialled.times == [0]


def test_backoff_never_overflows() -> None:
    assert Backoff(first_s=0.1, most_s=10).bound_s(10**6) == 10
    assert Backoff(first_s=0).bound_s(10**6) == 0
    assert Backoff(factor=1).bound_s(10**6) == 0.2


@pytest.mark.parametrize(("value", "wait"), [("0", 0), ("12", 12), ("999999999", 24 * 3600_000), ("1e3", -1), ("", -1)])
def test_what_a_pushback_says(value: str, wait: int) -> None:
    assert pushback_ms((("x", "y"), ("grpc-retry-pushback-ms", value))) == wait
    assert pushback_ms(()) is None


@pytest.mark.parametrize("code", [code for code in StatusCode if code])
def test_every_status_has_an_error_of_its_own(code: StatusCode) -> None:
    error = error_of(Status(code, "why", b"d", (("k", "v"),)))
    assert type(error) is ERRORS[code]
    assert (error.code, error.message, error.details, error.status.metadata) == (code, "why", b"d", (("k", "v"),))
    assert len(set(ERRORS.values())) == len(ERRORS) == 16


def test_the_services_own_errors() -> None:
    wire = pb.ErrorResponse(error_type=pb.ERROR_TYPE_RESOURCE_LIMIT, retryable=True, retry_after_ms=1500)
    details = pack(StatusCode.RESOURCE_EXHAUSTED, "", wire)
    full = decode_remote_error(details, StatusCode.RESOURCE_EXHAUSTED)
    assert full is not None
    assert retry_after_s(full) == 1.5
    later = decode_remote_error(details, StatusCode.RESOURCE_EXHAUSTED, 4000)
    assert later is not None
    assert retry_after_s(later) == 4
    never = decode_remote_error(details, StatusCode.RESOURCE_EXHAUSTED, -1)
    assert never is not None
    assert retry_after_s(never) is None
    assert retry_after_s(RemoteError(wire)) is None  # in band: the session continues


# ---- the choice of a client


async def test_a_living_connection_is_used_again_and_a_lost_one_is_not(autojump_clock: trio.testing.MockClock) -> None:
    dialled = Dialled(None, unavailable(), None)
    async with reconnecting("there:1", open_client=dialled, backoff=BACKOFF, chance=lambda: HALF) as service:
        first = await service.client()
        assert await service.client() is first
        first._channel.driver.close("lost")
        second = await service.client()
        assert second is not first
        await trio.testing.wait_all_tasks_blocked()
        assert dialled.open == 1
    assert dialled.open == 0
    assert len(dialled.times) == 3


async def test_many_ask_and_one_connects(autojump_clock: trio.testing.MockClock) -> None:
    dialled = Dialled(unavailable(), None)
    clients: list[Client] = []

    async def ask(service: Reconnecting) -> None:
        clients.append(await service.client())

    async with reconnecting("there:1", open_client=dialled, backoff=BACKOFF, chance=lambda: HALF) as service:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask, service)
        assert len(set(map(id, clients))) == 1
    assert len(dialled.times) == 2


async def test_the_callers_errors_pass_as_they_are() -> None:
    async def fail() -> None:
        async with reconnecting("there:1", open_client=Dialled(None)) as service:
            await service.client()
            raise LookupError

    with pytest.raises(LookupError):
        await fail()


async def test_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        async with reconnecting("there"):
            pytest.fail("it is none")


# ---- with a server


@asynccontextmanager
async def listening(path: str, handler: Callable[[Call], Awaitable[None]]) -> AsyncIterator[str]:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, {path: handler})
            yield f"127.0.0.1:{server.port}"
            nursery.cancel_scope.cancel()


async def test_a_session_that_is_refused_is_asked_for_again() -> None:
    refused = 0

    async def refuse(call: Call) -> None:
        nonlocal refused
        refused += 1
        raise StatusError(StatusCode.RESOURCE_EXHAUSTED, "full", metadata=(("grpc-retry-pushback-ms", "1"),))

    backoff = Backoff(attempts=3, first_s=0)
    async with (
        listening(f"/{STREAMING_SERVICE}/StreamPipeline", refuse) as address,
        reconnecting(address, backoff=backoff) as service,
    ):
        with pytest.raises((ResourceExhausted, RemoteError), match="full"):
            async with service.stream(ECHO):
                pytest.fail("there is no session")
    assert refused == 3


async def test_a_new_session_on_a_new_server() -> None:
    """A server drains and another takes its place, which serves the client's next session."""
    with trio.fail_after(120):
        async with serving(BUILTIN) as old:
            port = old.port
            async with reconnecting(f"127.0.0.1:{port}", backoff=Backoff(first_s=0.05)) as service:
                async with service.stream(ECHO, options=QUIET) as session:
                    await talk(session)
                    old.drain(0)
                    with pytest.raises((RpcError, RemoteError)) as lost:
                        await read_all(session)
                    assert lost.value.code is StatusCode.UNAVAILABLE  # type: ignore[union-attr]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve_on, port, nursery)
                    async with service.stream(ECHO, options=QUIET) as session:
                        await talk(session)
                    nursery.cancel_scope.cancel()


async def read_all(session: RemoteSession) -> None:
    async for _ in session:
        pass


async def serve_on(port: int, nursery: trio.Nursery) -> None:
    await trio.sleep(0.1)  # no server listens until then
    await serve(handlers(Engine(BUILTIN)), port=port)


async def talk(session: RemoteSession) -> None:
    await session.send(Chunk(Data({"k": 1}), 0))
    assert isinstance(await session.receive(), Result)


async def test_going_away_does_not_cut_the_calls_that_run() -> None:
    """The old connection stays open for its call; new calls use a new connection."""
    released = trio.Event()

    async def wait(call: Call) -> None:
        await call.receive()
        await released.wait()
        await call.send(b"")

    async with (
        listening(f"/{EXECUTION_SERVICE}/GetVersion", wait) as address,
        reconnecting(address) as service,
        trio.open_nursery() as nursery,
    ):
        old = await service.client()
        nursery.start_soon(old.get_version)
        await trio.testing.wait_all_tasks_blocked(0.01)
        old._channel._unavailable_reason = "going away"
        new = await service.client()
        assert new is not old
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert old._channel.driver.end_reason is None
        released.set()
    async with listening("/x/y", wait) as address, connect(address) as client:
        await client.wait_unused()
