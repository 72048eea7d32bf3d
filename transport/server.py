"""Listening, accepting and draining: handlers by path, one `Driver` for each connection.

Rules kept here:
- Nested nurseries spell the order of shutdown: first the listeners close, then calls get their time, then
  what is left is cancelled, then connections close.
- Connections and the calls on each are counted and limited; what is over the limit is told so, not queued.
- One connection's failure, even a fault of ours, ends that connection alone.
"""

import errno
import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from transport.calls import Call, Handler, run_call
from transport.connection import Connection
from transport.driver import Driver
from transport.events import Event, RequestStarted, StreamFailed, StreamReset
from transport.limits import Limits
from transport.rpc_status import Status, StatusCode

__all__ = ["AddressInUse", "Server", "serve"]

_log = logging.getLogger("headrace.transport.server")

_LAST_WORDS_S = 1.0
_ENHANCE_YOUR_CALM = 11


class AddressInUse(OSError):
    """Another process listens there."""


class Server:
    """What is running; `serve` hands it to whoever started it.

    Attributes:
      port: The first listener's.
    """

    def __init__(self, handlers: Mapping[str, Handler], limits: Limits, *, debug_errors: bool) -> None:
        self.handlers = handlers
        self.limits = limits
        self.debug_errors = debug_errors
        self.port = 0
        self.connections: set[ServerConnection] = set()
        self._stop = trio.Event()
        self._drain_timeout_s = math.inf

    def drain(self, timeout_s: float = math.inf) -> None:
        """Accept nothing more, let calls finish within `timeout_s`, then cancel them; `serve` returns then."""
        self._drain_timeout_s = min(self._drain_timeout_s, timeout_s)
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
        connection = ServerConnection(self, transport, peer)
        if len(self.connections) >= self.limits.max_connections:
            await connection.turn_away("too many connections")
            return
        self.connections.add(connection)
        try:
            await connection.run()
        except Exception:  # a fault of ours: the other connections must not pay for it
            _log.exception("connection from %s ended by a fault", peer)
        finally:
            self.connections.discard(connection)

    async def end_connections(self) -> None:
        """The orderly end: GOAWAY, time for the calls, UNAVAILABLE for those that need longer."""
        async with trio.open_nursery() as nursery:
            for connection in self.connections:
                nursery.start_soon(connection.end, self._drain_timeout_s)


class ServerConnection:
    """One client's connection and the calls on it."""

    def __init__(self, server: Server, transport: trio.abc.Stream, peer: str) -> None:
        self._server = server
        self._transport = transport
        self._peer = peer
        self._calls: trio.Nursery | None = None
        self._call_ended = trio.lowlevel.ParkingLot()
        self._connection = Connection(client_side=False, limits=server.limits)
        self.driver = Driver(
            transport,
            self._connection,
            server.limits,
            on_event=self._on_event,
            on_end=self._on_end,
            stall_timeout_s=server.limits.write_timeout_s,
        )

    async def run(self) -> None:
        """Serve until the connection ends; its calls end with it."""
        async with trio.open_nursery() as self._calls:
            await self.driver.run()
            self._calls.cancel_scope.cancel()

    async def turn_away(self, reason: str) -> None:
        self._connection.initiate_connection()
        self._connection.go_away(_ENHANCE_YOUR_CALM, reason)
        with trio.move_on_after(_LAST_WORDS_S), suppress(trio.BrokenResourceError):
            await self._transport.send_all(self._connection.data_to_send())

    async def end(self, timeout_s: float) -> None:
        self._connection.go_away()
        self.driver.wake_writer()
        with trio.move_on_after(timeout_s):
            await self._wait_calls()
        for call in list(self.driver.streams.values()):
            assert isinstance(call, Call)
            call.abort(Status(StatusCode.UNAVAILABLE, "the server is shutting down"))
        with trio.move_on_after(_LAST_WORDS_S):
            await self._wait_calls()
        self.driver.finish("the server is shutting down")

    async def _wait_calls(self) -> None:
        while self.driver.streams and self.driver.end_reason is None:
            await self._call_ended.park()

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self._start_call(event)
            case StreamReset(stream_id):
                self._break_off(stream_id, "the client cancelled the call")
            case StreamFailed(stream_id, status):
                self._break_off(stream_id, f"the client broke the call: {status.message}")

    def _start_call(self, request: RequestStarted) -> None:
        handler = self._server.handlers.get(request.path)
        if handler is None:
            self._connection.end_response(
                request.stream_id, Status(StatusCode.UNIMPLEMENTED, f"no method {request.path[:200]}")
            )
            return
        call = Call(self.driver, request, self._peer)
        self.driver.streams[request.stream_id] = call
        assert self._calls is not None
        self._calls.start_soon(self._run_call, call, handler, name=request.path)

    async def _run_call(self, call: Call, handler: Handler) -> None:
        try:
            await run_call(call, handler, debug_errors=self._server.debug_errors)
        finally:
            self.driver.streams.pop(call.stream_id, None)
            self._call_ended.unpark_all()

    def _break_off(self, stream_id: int, reason: str) -> None:
        if stream := self.driver.streams.get(stream_id):
            stream.break_off(trio.BrokenResourceError(reason))

    def _on_end(self, reason: str) -> None:
        for stream in self.driver.streams.values():
            stream.break_off(trio.BrokenResourceError(reason))
        self._call_ended.unpark_all()


async def serve(
    handlers: Mapping[str, Handler],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits | None = None,
    debug_errors: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen and serve until `Server.drain` or cancellation.

    Args:
      handlers: By path, `/package.Service/Method`; read at every call, so it may change.
      host: Where to listen; every address it resolves to.
      port: 0 picks a free one, told by `Server.port`.
      limits: What connections may hold and how long they may wait.
      debug_errors: Send what an unexpected exception says to the client.
      task_status: Given the `Server` once it listens.
    Raises:
      AddressInUse.
    """
    server = Server(handlers, limits or Limits(), debug_errors=debug_errors)
    listeners = await _listen(host, port)
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as connections:
        async with _accepting(server, listeners, connections):
            task_status.started(server)
            await server.wait_draining()
        await server.end_connections()
        connections.cancel_scope.cancel()


@asynccontextmanager
async def _accepting(
    server: Server, listeners: list[trio.SocketListener], connections: trio.Nursery
) -> AsyncIterator[None]:
    async def accept(transport: trio.SocketStream) -> None:
        await server.accept(transport, _peer_of(transport))

    async with trio.open_nursery() as accepting:
        await accepting.start(partial(trio.serve_listeners, accept, listeners, handler_nursery=connections))
        yield
        accepting.cancel_scope.cancel()


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise AddressInUse(errno.EADDRINUSE, f"{host}:{port} is in use by another process") from None


def _peer_of(transport: trio.SocketStream) -> str:
    try:
        host, port, *_ = transport.socket.getpeername()
    except (OSError, ValueError):
        return "?"
    return f"{host}:{port}"
