"""One client's connection to a server, and the calls on it.

Rules kept here:
- `AccessControl` admits a call before any work is done for it. A call that starts and breaks off within one read of
  its connection never runs. Calls are counted and limited; a call over the limit is refused at once.
- A drain first gives the calls time to end, then asks their handlers to close, then cancels the calls still open.
- Every failure is reported with an `ErrorResponse`.
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

__all__ = ["LAST_WORDS_S", "SHUTTING_DOWN", "ServerConnection", "ServerContext"]

_log = logging.getLogger(f"headrace.{__name__}")

LAST_WORDS_S = 1.0
"""Time for the last exchange with a client: to send a refusal, see a shutdown, or end cancelled calls."""

SHUTTING_DOWN = "the server is shutting down"

_SHUTDOWN_PING = b"draining"  # sent after the announcement: the client's answer proves that it has read both


@attrs.frozen
class ServerContext:
    """Settings and state that all connections of one server share.

    Attributes:
      handlers: Handlers by path; looked up at every call, so the mapping may change.
      limits: Memory and time limits of one connection.
      access: Admission of calls.
      budget: Bytes that large messages may hold beyond their windows, over all connections.
      debug_errors: Send the text of unexpected exceptions to clients.
      turnstile: Fair lock on which connections with much input take turns.
    """

    handlers: Mapping[str, Handler]
    limits: Limits
    access: AccessControl
    budget: ByteBudget
    debug_errors: bool
    turnstile: trio.Lock = attrs.field(factory=trio.Lock, init=False)


class _ExplainingConnection(Connection):
    """A connection that adds an `ErrorResponse` to every failed status that has no details.

    The override reaches all ends of a call: those of handlers, refusals, and the statuses that the gRPC layer sends by
    itself, for example for a message over the size limit.
    """

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        super().end_response(stream_id, explained(status), http_status)


class ServerConnection:
    """One client's connection and the calls on it."""

    def __init__(self, context: ServerContext, transport: trio.abc.Stream, peer: str) -> None:
        self._context = context
        self._peer = peer
        self._calls: trio.Nursery | None = None
        self._begun: list[tuple[Call, Grant]] = []  # calls that started in the input handled now
        self._call_ended = trio.lowlevel.ParkingLot()
        self._refusal: EngineError | None = None
        self._answered = trio.Event()  # set once any call has been refused or has ended
        self._shutdown_seen = trio.Event()  # set once the client knows of the shutdown, or the connection has ended
        # Advertise twice the limit: a client that honours MAX_CONCURRENT_STREAMS would otherwise queue excess calls
        # silently instead of receiving a refusal.
        advertised = attrs.evolve(context.limits, max_streams=2 * context.limits.max_streams)
        self._connection = _ExplainingConnection(
            client_side=False, limits=advertised, budget=context.budget, large=False
        )
        self.driver = Driver(
            transport,
            self._connection,
            context.limits,
            on_event=self._on_event,
            on_end=self._on_end,
            on_turn=self._run_begun_calls,
            turnstile=context.turnstile,
            stall_timeout_s=context.limits.write_timeout_s,
        )

    async def run(self) -> None:
        """Serve until the connection ends; its calls end with it."""
        async with trio.open_nursery() as self._calls:
            await self.driver.run()
            self._calls.cancel_scope.cancel()

    async def close_after_refusal(self, refusal: EngineError) -> None:
        """End the connection once one call has been answered, or after LAST_WORDS_S.

        Args:
          refusal: Answer to every call that needs a token; calls of open methods run as usual.
        """
        self._refusal = refusal
        with trio.move_on_after(LAST_WORDS_S):
            await self._answered.wait()
        self._connection.finish_shutdown(0, refusal.message)
        self.driver.close(refusal.message)

    async def close(self, timeout_s: float, closing_s: float) -> None:
        """Drain the connection.

        Args:
          timeout_s: Time for calls to end by themselves.
          closing_s: Further time for handlers that were then asked to close.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce_shutdown)
            await self._close_calls(timeout_s, closing_s)
        self.driver.close(SHUTTING_DOWN)
        await self.driver.closed.wait()

    async def _announce_shutdown(self) -> None:
        """Announce the shutdown with GOAWAY; calls that the client starts before it can know are still answered."""
        self._connection.begin_shutdown(SHUTTING_DOWN)
        self._connection.ping(_SHUTDOWN_PING)
        self.driver.wake_writer()
        with trio.move_on_after(LAST_WORDS_S):
            await self._shutdown_seen.wait()
        self._connection.finish_shutdown(0, SHUTTING_DOWN)
        self.driver.wake_writer()

    async def _close_calls(self, timeout_s: float, closing_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._wait_calls()
        reason = f"{SHUTTING_DOWN} and closed the session"
        closing = [call.request_close(ShuttingDown(reason)) for call in self._awaited_calls]
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
    def _awaited_calls(self) -> list[Call]:
        """Calls that a drain waits for; health watches never end by themselves."""
        return [call for call in self._open_calls if not call.is_open_to_all]

    async def _wait_calls(self) -> None:
        while self._awaited_calls and self.driver.end_reason is None:
            await self._call_ended.park()

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self._start_call(event)
            case StreamReset(stream_id):
                self._fail_stream(stream_id, "the client cancelled the call")
            case StreamFailed(stream_id, status):
                self._fail_stream(stream_id, f"the client broke gRPC's rules: {status.message}")
            case PingAcknowledged(data) if data == _SHUTDOWN_PING:
                self._shutdown_seen.set()

    def _start_call(self, request: RequestStarted) -> None:
        try:
            grant = self._context.access.admit(request.path, request.metadata, self._peer)
        except EngineError as error:
            self._refuse(request.stream_id, end_status(error))
            return
        if (status := self._refusal_status(request, grant)) is not None:
            self._context.access.release(grant)
            self._refuse(request.stream_id, status)
            return
        call = Call(self.driver, request, self._peer)
        call.is_open_to_all = grant.is_open
        self.driver.streams[request.stream_id] = call
        if not grant.is_open:
            self._connection.allow_large(request.stream_id)
        self._begun.append((call, grant))

    def _run_begun_calls(self) -> None:
        begun, self._begun = self._begun, []
        for call, grant in begun:
            if call.is_broken:
                self._release(call, grant)
            else:
                assert self._calls is not None
                self._calls.start_soon(self._run_call, call, grant, name=call.path)

    def _refusal_status(self, request: RequestStarted, grant: Grant) -> Status | None:
        if self._refusal is not None and not grant.is_open:
            return end_status(self._refusal)
        limit = self._context.limits.max_streams
        if self._connection.open_streams > limit:  # this call included
            return end_status(AtCapacity(f"the connection has reached its limit of {limit} open calls"))
        if request.path not in self._context.handlers:
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
            handler = self._context.handlers[call.path]
            status = await run_call(call, handler, debug_errors=self._context.debug_errors)
        finally:
            self._release(call, grant)
            if grant.is_session and _log.isEnabledFor(logging.INFO):
                caller = f"{self._peer} ({grant.name})" if grant.name else self._peer
                took = trio.current_time() - began
                _log.info("%s from %s ended after %.1f s: %s", call.path, caller, took, status.code.name)

    def _release(self, call: Call, grant: Grant) -> None:
        self.driver.streams.pop(call.stream_id, None)
        self._context.access.release(grant)
        self._call_ended.unpark_all()
        self._answered.set()

    def _fail_stream(self, stream_id: int, reason: str) -> None:
        if stream := self.driver.streams.get(stream_id):
            stream.fail(trio.BrokenResourceError(reason))

    def _on_end(self, reason: str) -> None:
        for stream in self.driver.streams.values():
            stream.fail(trio.BrokenResourceError(reason))
        self._call_ended.unpark_all()
        self._shutdown_seen.set()
