"""One client's connection to a server, and the calls on it.

Rules kept here:
- `AccessControl` admits a call before anything is done for it. A call that is broken off in the turn of its
  connection in which it began is never run. Calls are counted and limited; one over the limit is refused at once.
- At its end, calls get their time, then those that can are asked to close, then what is left is cancelled.
- Whatever fails is told with an `ErrorResponse`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import attrs
import trio

from engine.errors import AtCapacity, EngineError
from transport.codec.errors import end_status, explained
from transport.grpc.connection import Connection
from transport.grpc.driver import Driver
from transport.grpc.events import Event, PingAcknowledged, RequestStarted, StreamFailed, StreamReset
from transport.grpc.limits import Limits
from transport.grpc.rate_limits import ByteBudget
from transport.grpc.status import Status, StatusCode
from transport.server.access import AccessControl, Grant, ShuttingDown
from transport.server.call import Call, Handler, run_call

__all__ = ["LAST_WORDS_S", "SHUTTING_DOWN", "Common", "ServerConnection"]

_log = logging.getLogger(f"headrace.{__name__}")

LAST_WORDS_S = 1.0
SHUTTING_DOWN = "the server is shutting down"

_END_ANNOUNCED = b"draining"  # a ping after the announcement: its answer says that this was read


@attrs.frozen
class Common:
    """What the connections of a server have in common.

    Attributes:
      handlers: By path; read at every call, so it may change.
      limits: What a connection may hold and how long it may wait.
      access: Who may call.
      budget: Of what large messages hold beyond their windows, on all connections.
      debug_errors: Send what an unexpected exception says to the client.
      turnstile: Where connections that have more than one turn's worth to handle wait for one another.
    """

    handlers: Mapping[str, Handler]
    limits: Limits
    access: AccessControl
    budget: ByteBudget
    debug_errors: bool
    turnstile: trio.Lock = attrs.field(factory=trio.Lock, init=False)


class _ExplainingConnection(Connection):
    """Tells every failure, of its own too, with an `ErrorResponse`."""

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        super().end_response(stream_id, explained(status), http_status)


class ServerConnection:
    """One client's connection and the calls on it."""

    def __init__(self, common: Common, transport: trio.abc.Stream, peer: str) -> None:
        self._common = common
        self._peer = peer
        self._calls: trio.Nursery | None = None
        self._begun: list[tuple[Call, Grant]] = []  # in this turn
        self._call_ended = trio.lowlevel.ParkingLot()
        self._refusal: EngineError | None = None
        self._answered = trio.Event()  # a call, in whatever way
        self._knows_the_end = trio.Event()  # the client, that it comes; or it has come
        # A client that keeps to what it is told would queue the calls over the limit: it is told of twice as many.
        told = attrs.evolve(common.limits, max_streams=2 * common.limits.max_streams)
        self._connection = _ExplainingConnection(client_side=False, limits=told, budget=common.budget, large=False)
        self.driver = Driver(
            transport,
            self._connection,
            common.limits,
            on_event=self._on_event,
            on_end=self._on_end,
            on_turn=self._run_begun,
            turnstile=common.turnstile,
            stall_timeout_s=common.limits.write_timeout_s,
        )

    async def run(self) -> None:
        """Serve until the connection ends; its calls end with it."""
        async with trio.open_nursery() as self._calls:
            await self.driver.run()
            self._calls.cancel_scope.cancel()

    async def close_after_refusal(self, refusal: EngineError) -> None:
        """End the connection as soon as a call on it has been answered, or soon in any case."""
        self._refusal = refusal
        with trio.move_on_after(LAST_WORDS_S):
            await self._answered.wait()
        self._connection.finish_shutdown(0, refusal.message)
        self.driver.close(refusal.message)

    async def close(self, timeout_s: float, closing_s: float) -> None:
        """The connection's part of a drain."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce_shutdown)
            await self._close_calls(timeout_s, closing_s)
        self.driver.close(SHUTTING_DOWN)
        await self.driver.closed.wait()

    async def _announce_shutdown(self) -> None:
        """Tell the client of the end; calls that it makes before it can know are answered, those after are not."""
        self._connection.begin_shutdown(SHUTTING_DOWN)
        self._connection.ping(_END_ANNOUNCED)
        self.driver.wake_writer()
        with trio.move_on_after(LAST_WORDS_S):
            await self._knows_the_end.wait()
        self._connection.finish_shutdown(0, SHUTTING_DOWN)
        self.driver.wake_writer()

    async def _close_calls(self, timeout_s: float, closing_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._wait_calls()
        closing = [call.request_close(ShuttingDown(f"{SHUTTING_DOWN}: it closed the session")) for call in self._work]
        if any(closing):
            with trio.move_on_after(closing_s):
                await self._wait_calls()
        for call in self._open_calls:
            call.cancel(end_status(ShuttingDown(SHUTTING_DOWN)))
        with trio.move_on_after(LAST_WORDS_S):
            while self.driver.streams and self.driver.end_reason is None:
                await self._call_ended.park()

    @property
    def _open_calls(self) -> list[Call]:
        return [call for call in self.driver.streams.values() if isinstance(call, Call)]

    @property
    def _work(self) -> list[Call]:
        """What is worth waiting for: watching how the server is goes on for ever."""
        return [call for call in self._open_calls if not call.is_open_to_all]

    async def _wait_calls(self) -> None:
        while self._work and self.driver.end_reason is None:
            await self._call_ended.park()

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self._start_call(event)
            case StreamReset(stream_id):
                self._fail_stream(stream_id, "the client cancelled the call")
            case StreamFailed(stream_id, status):
                self._fail_stream(stream_id, f"the client broke the call: {status.message}")
            case PingAcknowledged(data) if data == _END_ANNOUNCED:
                self._knows_the_end.set()

    def _start_call(self, request: RequestStarted) -> None:
        try:
            grant = self._common.access.admit(request.path, request.metadata, self._peer)
        except EngineError as error:
            self._refuse(request.stream_id, end_status(error))
            return
        if (status := self._why_not(request, grant)) is not None:
            self._common.access.release(grant)
            self._refuse(request.stream_id, status)
            return
        call = Call(self.driver, request, self._peer)
        call.is_open_to_all = grant.is_open
        self.driver.streams[request.stream_id] = call
        if not grant.is_open:
            self._connection.allow_large(request.stream_id)
        self._begun.append((call, grant))

    def _run_begun(self) -> None:
        begun, self._begun = self._begun, []
        for call, grant in begun:
            if call.is_broken:
                self._leave(call, grant)
            else:
                assert self._calls is not None
                self._calls.start_soon(self._run_call, call, grant, name=call.path)

    def _why_not(self, request: RequestStarted, grant: Grant) -> Status | None:
        if self._refusal is not None and not grant.is_open:
            return end_status(self._refusal)
        limit = self._common.limits.max_streams
        if self._connection.open_streams > limit:  # with this one
            return end_status(AtCapacity(f"the connection has {limit} calls open, as many as it may have"))
        if request.path not in self._common.handlers:
            return Status(StatusCode.UNIMPLEMENTED, f"no method {request.path[:200]}")
        return None

    def _refuse(self, stream_id: int, status: Status) -> None:
        self._connection.end_response(stream_id, status)
        self.driver.wake_writer()
        self._answered.set()

    async def _run_call(self, call: Call, grant: Grant) -> None:
        began = trio.current_time()
        status = Status(StatusCode.CANCELLED)
        try:
            handler = self._common.handlers[call.path]
            status = await run_call(call, handler, debug_errors=self._common.debug_errors)
        finally:
            self._leave(call, grant)
            if grant.is_session and _log.isEnabledFor(logging.INFO):
                who = f"{self._peer} ({grant.name})" if grant.name else self._peer
                took = trio.current_time() - began
                _log.info("%s from %s ended after %.1f s: %s", call.path, who, took, status.code.name)

    def _leave(self, call: Call, grant: Grant) -> None:
        self.driver.streams.pop(call.stream_id, None)
        self._common.access.release(grant)
        self._call_ended.unpark_all()
        self._answered.set()

    def _fail_stream(self, stream_id: int, reason: str) -> None:
        if stream := self.driver.streams.get(stream_id):
            stream.fail(trio.BrokenResourceError(reason))

    def _on_end(self, reason: str) -> None:
        for stream in self.driver.streams.values():
            stream.fail(trio.BrokenResourceError(reason))
        self._call_ended.unpark_all()
        self._knows_the_end.set()
