"""Serving connections and draining them: handlers by path, one `Driver` for each connection.

Rules kept here:
- Nested nurseries spell the order of shutdown: first the listeners close, then calls get their time, then those that
  can are asked to close, then what is left is cancelled, then connections close.
- A call passes the `Doors` before anything is done for it, and one that is broken off in the turn of its connection in
  which it began is never run. Connections, and the calls on each, are counted and
  limited; what is over a limit is told so at once, not queued.
- One connection's failure, even a fault of ours, ends that connection alone.
- Whatever fails is told with an `ErrorResponse`.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import attrs
import trio

from engine.errors import AtCapacity, EngineError
from transport.accepting import accept_for_ever
from transport.calls import Call, Handler, run_call
from transport.connection import Connection
from transport.doors import Doors, Pass, ShuttingDown
from transport.driver import Driver
from transport.events import Event, PingAcknowledged, RequestStarted, StreamFailed, StreamReset
from transport.guard import Budget
from transport.limits import Limits
from transport.listeners import (
    Address,
    AddressInUse,
    AddressUnusable,
    Listener,
    TcpAddress,
    open_listeners,
    peer_of,
)
from transport.rpc_status import Status, StatusCode
from transport.status import end_status, explained
from transport.tls import HandshakeFailed, Tls

__all__ = ["AddressInUse", "AddressUnusable", "Server", "serve"]

_log = logging.getLogger("headrace.transport.server")

_LAST_WORDS_S = 1.0
_CLOSING_S = 5.0
_ANTEROOM = 64
_END_ANNOUNCED = b"draining"  # a ping after the announcement: its answer says that this was read
_SHUTTING_DOWN = "the server is shutting down"


class Server:
    """What is running; `serve` hands it to whoever started it.

    Attributes:
      listeners: Open ones.
      port: The first listener's.
      doors: Who may call.
      connections: Being served, or told why they are not.
      budget: Of what large messages hold beyond their windows, on all connections.
      turnstile: Where connections that have more than one turn's worth to handle wait for one another.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        limits: Limits,
        *,
        debug_errors: bool,
        doors: Doors | None = None,
        tls: Tls | None = None,
        on_drain: Callable[[], None] | None = None,
    ) -> None:
        self.handlers = handlers
        self.limits = limits
        self.debug_errors = debug_errors
        self.doors = doors or Doors()
        self.tls = tls
        self.listeners: list[Listener] = []
        self.port = 0
        self.connections: set[ServerConnection] = set()
        self.budget = Budget(limits.large_messages_bytes)
        self.turnstile = trio.Lock()
        self._on_drain = on_drain
        self._held = 0  # connections, with those that are still shaking hands
        self._waiting = 0  # those that are only told that there is no room
        self._stop = trio.Event()
        self._drain_timeout_s = math.inf
        self._closing_s = _CLOSING_S

    def drain(self, timeout_s: float = math.inf, *, closing_s: float = _CLOSING_S) -> None:
        """Accept nothing more, and have `serve` return when all calls are over.

        Args:
          timeout_s: What calls get to end in by themselves.
          closing_s: What sessions get then, to give their tails when they are closed from here.
        """
        self._drain_timeout_s = min(self._drain_timeout_s, timeout_s)
        self._closing_s = closing_s
        if not self._stop.is_set():
            self.doors.close()
            if self._on_drain is not None:
                self._on_drain()
        self._stop.set()

    @property
    def open_calls(self) -> int:
        """Calls running now, on all connections."""
        return sum(len(connection.driver.streams) for connection in self.connections)

    async def wait_draining(self) -> None:
        """Wait until `drain` is called."""
        await self._stop.wait()

    async def accept(self, transport: trio.abc.Stream, peer: str = "") -> None:
        """Serve one connection to its end; any trio stream will do. Does not raise but Cancelled."""
        try:
            if self._held >= self.limits.max_connections:
                await self._accept_in_anteroom(transport, peer)
            else:
                await self._accept(transport, peer)
        except HandshakeFailed as error:
            _log.info("connection from %s: %s", peer, error)
        except Exception:  # a fault of ours: the other connections must not pay for it
            _log.exception("connection from %s ended by a fault", peer)

    async def _accept(self, transport: trio.abc.Stream, peer: str) -> None:
        self._held += 1
        try:
            connection = ServerConnection(self, await self._secured(transport), peer)
            if self._stop.is_set():
                await self._tell(connection, ShuttingDown(_SHUTTING_DOWN))
            else:
                await self._run(connection)
        finally:
            self._held -= 1

    async def _accept_in_anteroom(self, transport: trio.abc.Stream, peer: str) -> None:
        """Answer the first call of a connection that there is no room for, then close; health is answered too."""
        if self._waiting >= _ANTEROOM:
            await self.shut_out(transport)
            return
        self._waiting += 1
        try:
            error = AtCapacity(f"the server has {self.limits.max_connections} connections, as many as it takes")
            await self._tell(ServerConnection(self, await self._secured(transport), peer), error)
        finally:
            self._waiting -= 1

    async def _secured(self, transport: trio.abc.Stream) -> trio.abc.Stream:
        return transport if self.tls is None else await self.tls.shake_hands(transport)

    async def _run(self, connection: "ServerConnection") -> None:
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    async def _tell(self, connection: "ServerConnection", refusal: EngineError) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.end_when_told, refusal)
            await self._run(connection)
            nursery.cancel_scope.cancel()

    async def shut_out(self, transport: trio.abc.Stream) -> None:
        """Close a connection with no more than a word, which cannot be said where there is TLS."""
        if self.tls is None:
            connection = Connection(client_side=False, limits=self.limits)
            connection.initiate_connection()
            connection.go_away(0, "too many connections")
            with trio.move_on_after(_LAST_WORDS_S), suppress(trio.BrokenResourceError):
                await transport.send_all(connection.data_to_send())
        await trio.aclose_forcefully(transport)

    async def end_connections(self) -> None:
        """The orderly end: GOAWAY, time for the calls, a close for sessions, UNAVAILABLE for what needs longer."""
        async with trio.open_nursery() as nursery:
            for connection in self.connections:
                nursery.start_soon(connection.end, self._drain_timeout_s, self._closing_s)


class _ExplainingConnection(Connection):
    """Tells every failure, of its own too, with an `ErrorResponse`."""

    def end_response(self, stream_id: int, status: Status, http_status: int = 200) -> None:
        super().end_response(stream_id, explained(status), http_status)


class ServerConnection:
    """One client's connection and the calls on it."""

    def __init__(self, server: Server, transport: trio.abc.Stream, peer: str) -> None:
        self._server = server
        self._peer = peer
        self._calls: trio.Nursery | None = None
        self._begun: list[tuple[Call, Pass]] = []  # in this turn
        self._call_ended = trio.lowlevel.ParkingLot()
        self._refusal: EngineError | None = None
        self._answered = trio.Event()  # a call, in whatever way
        self._knows_the_end = trio.Event()  # the client, that it comes; or it has come
        # A client that keeps to what it is told would queue the calls over the limit: it is told of twice as many.
        told = attrs.evolve(server.limits, max_streams=2 * server.limits.max_streams)
        self._connection = _ExplainingConnection(client_side=False, limits=told, budget=server.budget, large=False)
        self.driver = Driver(
            transport,
            self._connection,
            server.limits,
            on_event=self._on_event,
            on_end=self._on_end,
            on_turn=self._run_begun,
            turnstile=server.turnstile,
            stall_timeout_s=server.limits.write_timeout_s,
        )

    async def run(self) -> None:
        """Serve until the connection ends; its calls end with it."""
        async with trio.open_nursery() as self._calls:
            await self.driver.run()
            self._calls.cancel_scope.cancel()

    async def end_when_told(self, refusal: EngineError) -> None:
        """End the connection as soon as a call on it has been answered, or soon in any case."""
        self._refusal = refusal
        with trio.move_on_after(_LAST_WORDS_S):
            await self._answered.wait()
        self._connection.go_away(0, refusal.message)
        self.driver.finish(refusal.message)

    async def end(self, timeout_s: float, closing_s: float) -> None:
        """The connection's part of a drain."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._go_away)
            await self._end_calls(timeout_s, closing_s)
        self.driver.finish(_SHUTTING_DOWN)
        await self.driver.closed.wait()

    async def _go_away(self) -> None:
        """Tell the client of the end; calls that it makes before it can know are answered, those after are not."""
        self._connection.announce_end(_SHUTTING_DOWN)
        self._connection.ping(_END_ANNOUNCED)
        self.driver.wake_writer()
        with trio.move_on_after(_LAST_WORDS_S):
            await self._knows_the_end.wait()
        self._connection.go_away(0, _SHUTTING_DOWN)
        self.driver.wake_writer()

    async def _end_calls(self, timeout_s: float, closing_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._wait_calls()
        closing = [call.ask_to_close(ShuttingDown(f"{_SHUTTING_DOWN}: it closed the session")) for call in self._work]
        if any(closing):
            with trio.move_on_after(closing_s):
                await self._wait_calls()
        for call in self._open_calls:
            call.abort(end_status(ShuttingDown(_SHUTTING_DOWN)))
        with trio.move_on_after(_LAST_WORDS_S):
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
                self._break_off(stream_id, "the client cancelled the call")
            case StreamFailed(stream_id, status):
                self._break_off(stream_id, f"the client broke the call: {status.message}")
            case PingAcknowledged(data) if data == _END_ANNOUNCED:
                self._knows_the_end.set()

    def _start_call(self, request: RequestStarted) -> None:
        try:
            passed = self._server.doors.enter(request.path, request.metadata, self._peer)
        except EngineError as error:
            self._refuse(request.stream_id, end_status(error))
            return
        if (status := self._why_not(request, passed)) is not None:
            self._server.doors.leave(passed)
            self._refuse(request.stream_id, status)
            return
        call = Call(self.driver, request, self._peer)
        call.is_open_to_all = passed.is_open
        self.driver.streams[request.stream_id] = call
        if not passed.is_open:
            self._connection.allow_large(request.stream_id)
        self._begun.append((call, passed))

    def _run_begun(self) -> None:
        begun, self._begun = self._begun, []
        for call, passed in begun:
            if call.is_broken:
                self._leave(call, passed)
            else:
                assert self._calls is not None
                self._calls.start_soon(self._run_call, call, passed, name=call.path)

    def _why_not(self, request: RequestStarted, passed: Pass) -> Status | None:
        if self._refusal is not None and not passed.is_open:
            return end_status(self._refusal)
        limit = self._server.limits.max_streams
        if self._connection.open_streams > limit:  # with this one
            return end_status(AtCapacity(f"the connection has {limit} calls open, as many as it may have"))
        if request.path not in self._server.handlers:
            return Status(StatusCode.UNIMPLEMENTED, f"no method {request.path[:200]}")
        return None

    def _refuse(self, stream_id: int, status: Status) -> None:
        self._connection.end_response(stream_id, status)
        self.driver.wake_writer()
        self._answered.set()

    async def _run_call(self, call: Call, passed: Pass) -> None:
        began = trio.current_time()
        status = Status(StatusCode.CANCELLED)
        try:
            handler = self._server.handlers[call.path]
            status = await run_call(call, handler, debug_errors=self._server.debug_errors)
        finally:
            self._leave(call, passed)
            if passed.is_session and _log.isEnabledFor(logging.INFO):
                who = f"{self._peer} ({passed.name})" if passed.name else self._peer
                took = trio.current_time() - began
                _log.info("%s from %s ended after %.1f s: %s", call.path, who, took, status.code.name)

    def _leave(self, call: Call, passed: Pass) -> None:
        self.driver.streams.pop(call.stream_id, None)
        self._server.doors.leave(passed)
        self._call_ended.unpark_all()
        self._answered.set()

    def _break_off(self, stream_id: int, reason: str) -> None:
        if stream := self.driver.streams.get(stream_id):
            stream.break_off(trio.BrokenResourceError(reason))

    def _on_end(self, reason: str) -> None:
        for stream in self.driver.streams.values():
            stream.break_off(trio.BrokenResourceError(reason))
        self._call_ended.unpark_all()
        self._knows_the_end.set()


async def serve(
    handlers: Mapping[str, Handler],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listen: Sequence[Address] = (),
    reuse_port: bool = False,
    limits: Limits | None = None,
    doors: Doors | None = None,
    tls: Tls | None = None,
    on_drain: Callable[[], None] | None = None,
    debug_errors: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen and serve until `Server.drain` or cancellation.

    Args:
      handlers: By path, `/package.Service/Method`; read at every call, so it may change.
      host: Where to listen; every address it resolves to.
      port: 0 picks a free one, told by `Server.port`.
      listen: Where to listen, in place of `host` and `port`.
      reuse_port: Share TCP ports with other processes that do so too.
      limits: What connections may hold and how long they may wait.
      doors: Who may call; everybody, when not given.
      tls: What connections are secured with, if they are.
      on_drain: Called when `Server.drain` first is.
      debug_errors: Send what an unexpected exception says to the client.
      task_status: Given the `Server` once it listens.
    Raises:
      AddressInUse, AddressUnusable.
    """
    limits = limits or Limits()
    server = Server(handlers, limits, debug_errors=debug_errors, doors=doors, tls=tls, on_drain=on_drain)

    async def accept(transport: trio.SocketStream) -> None:
        await server.accept(transport, peer_of(transport))

    async with open_listeners(listen or [TcpAddress(host, port)], reuse_port=reuse_port) as listeners:
        server.listeners, server.port = listeners, listeners[0].port
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept_for_ever, listener.accepting, accept, server.shut_out, connections)
                task_status.started(server)
                await server.wait_draining()
                accepting.cancel_scope.cancel()
            for listener in listeners:  # now, so that a successor can listen there
                await listener.aclose()
            await server.end_connections()
            connections.cancel_scope.cancel()
